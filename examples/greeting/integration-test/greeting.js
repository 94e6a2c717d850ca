'use strict';

const assert = require('node:assert/strict');
const { greeting } = require('../client');

// Pointsman says which function, and which of its versions, is to be proved.
const subject = {
  functionName: process.env.POINTSMAN_FUNCTION ?? 'GreetingLambda',
  qualifier: process.env.POINTSMAN_QUALIFIER ?? '$LATEST',
};

describe(`${subject.functionName}:${subject.qualifier}`, () => {
  it('greets by name', async () => {
    const { greeting: text } = await greeting({ name: 'Ada' }, subject);
    assert.match(text, /\bAda\b/);
  });

  it('brings the dependencies it needs to speak another language', async () => {
    const { greeting: text } = await greeting({ name: 'Ada', languages: 'fr' }, subject);
    assert.match(text, /^Bonjour\b/);
  });

  it('is answered by the version under test', async () => {
    const { version, executedVersion } = await greeting({ name: 'Ada' }, subject);
    assert.equal(version, subject.qualifier);
    assert.equal(executedVersion, subject.qualifier);
  });

  it('refuses a caller without a name', async () => {
    await assert.rejects(greeting({}, subject), /TypeError: name must be a text/);
  });
});

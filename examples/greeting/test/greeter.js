'use strict';

const assert = require('node:assert/strict');
const { greet } = require('../lib/greeter');

describe('greet', () => {
  it('says hello by name', () => {
    assert.equal(greet({ name: 'Ada' }), 'Hello, Ada!');
  });

  it('speaks the language the caller prefers', () => {
    assert.equal(greet({ name: 'Ada', languages: 'nl, sv;q=0.8, en;q=0.5' }), 'Hej, Ada!');
  });

  it('falls back to English for languages it does not know', () => {
    assert.equal(greet({ name: 'Ada', languages: 'tlh' }), 'Hello, Ada!');
  });

  for (const name of [undefined, '', '  ', 42]) {
    it(`refuses ${JSON.stringify(name)} as a name`, () => {
      assert.throws(() => greet({ name }), /name must be a text/);
    });
  }
});

'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { invoke } = require('../client');

// Pointsman says which function, and which of its versions, is to be proved.
const subject = {
  functionName: process.env.POINTSMAN_FUNCTION ?? 'api-backend',
  qualifier: process.env.POINTSMAN_QUALIFIER ?? '$LATEST',
};
const get = (path) => invoke({ rawPath: path, requestContext: { http: { method: 'GET' } } }, subject);

test('answers with the stations', async () => {
  const { statusCode, body } = await get('/stations');
  assert.equal(statusCode, 200);
  assert.ok(JSON.parse(body).length > 0);
});

test('is the version under test', async () => {
  const { headers, executedVersion } = await get('/stations/york');
  assert.equal(headers['x-version'], subject.qualifier);
  assert.equal(executedVersion, subject.qualifier);
});

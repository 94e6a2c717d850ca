'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { answer } = require('../src/routes');

test('lists the stations', () => {
  const { status, body } = answer('GET', '/stations');
  assert.equal(status, 200);
  assert.deepEqual(
    body.map(({ id }) => id),
    ['york', 'crewe'],
  );
});

test('knows one of them by its id', () => {
  assert.deepEqual(answer('GET', '/stations/york'), { status: 200, body: { id: 'york', platforms: 11 } });
});

test('says what is not there', () => {
  assert.equal(answer('GET', '/stations/atlantis').status, 404);
});

test('changes nothing', () => {
  assert.equal(answer('DELETE', '/stations/york').status, 405);
});

'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const http = require('node:http');
const os = require('node:os');
const path = require('node:path');
const { test } = require('node:test');

const runtime = require('pointsman-runtime');

const { alias, AppConfig, Configuration, Files, Parameters } = runtime;
const FUNCTION = 'arn:aws:lambda:eu-west-1:123456789012:function:greeting';
const by = (qualifier) => ({ invokedFunctionArn: qualifier ? `${FUNCTION}:${qualifier}` : FUNCTION });

// A source whose answers, clock and failures the test decides.
class Shelf {
  maxAge = 60;
  reads = [];
  failure;

  constructor(books) {
    this.books = books;
  }

  where(name) {
    return `shelf ${name}`;
  }

  async read(name) {
    this.reads.push(name);
    await new Promise(setImmediate);
    if (this.failure) throw this.failure;
    return this.books[name];
  }
}

function folder(files) {
  const made = fs.mkdtempSync(path.join(os.tmpdir(), 'pointsman-runtime-'));
  for (const [name, text] of Object.entries(files)) fs.writeFileSync(path.join(made, name), text);
  return made;
}

// A server on 127.0.0.1 while `use` runs; `answer` gets the request and gives [status, body].
async function serving(answer, use) {
  const server = http.createServer((request, reply) => {
    const parts = [];
    request.on('data', (part) => parts.push(part));
    request.on('end', () => {
      const [status, body, headers = {}] = answer(request, Buffer.concat(parts).toString());
      reply.writeHead(status, { 'content-type': 'application/json', ...headers }).end(body);
    });
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  try {
    return await use(server.address().port);
  } finally {
    server.closeAllConnections();
    await new Promise((closed) => server.close(closed));
  }
}

async function withVariables(variables, use) {
  const before = { ...process.env };
  Object.assign(process.env, variables);
  try {
    return await use();
  } finally {
    process.env = before;
  }
}

const credentials = (port) => ({
  AWS_ACCESS_KEY_ID: '123456789012',
  AWS_SECRET_ACCESS_KEY: 'local',
  AWS_REGION: 'eu-west-1',
  AWS_ENDPOINT_URL: `http://127.0.0.1:${port}`,
});

test('the alias is what the caller named, and nothing else is one', () => {
  assert.equal(alias(by('PROD')), 'PROD');
  assert.equal(alias(by('feature-12')), 'feature-12');
  for (const none of ['12', '$LATEST', '$LATEST.PUBLISHED', '']) assert.equal(alias(by(none)), undefined);
  assert.equal(alias(null), undefined);
  assert.equal(alias(`${FUNCTION}:STAGE`), 'STAGE');
  assert.throws(() => alias({ body: 'an event' }), /is not a handler's context/);
});

test('an alias has its own file, every other the default', async () => {
  const place = folder({ 'PROD.json': '{"topic": "prod"}', 'default.json': '{"topic": "other", "only": 1}' });
  const settings = new Configuration(new Files(place));
  assert.deepEqual(await settings.read(by('PROD')), { topic: 'prod' });
  for (const other of ['STAGE', '7', '$LATEST', '']) {
    assert.deepEqual(await settings.read(by(other)), { topic: 'other', only: 1 });
  }
});

test('without a fallback it is refused in words', async () => {
  const settings = new Configuration(new Shelf({ PROD: {} }), { fallback: null });
  await assert.rejects(settings.read(by('7')), { name: 'NoAlias', where: 'the invocation' });
  await assert.rejects(settings.read(by('STAGE')), (error) => {
    assert.ok(error instanceof runtime.ConfigurationMissing && error instanceof runtime.ConfigurationError);
    assert.match(error.message, /^shelf STAGE: there is no configuration\. Write one/);
    return true;
  });
});

test('the fallback may be the alias that branches are modelled on', async () => {
  const settings = new Configuration(new Shelf({ STAGE: { topic: 's' } }), { fallback: 'STAGE' });
  assert.deepEqual(await settings.read(by('feature-x')), { topic: 's' });
});

test('it is read once per alias and age, also by many at once', async () => {
  let now = 1_000_000;
  const shelf = new Shelf({ PROD: { n: 1 }, default: { n: 0 } });
  const settings = new Configuration(shelf, { clock: () => now });
  const first = await Promise.all(Array.from({ length: 20 }, () => settings.read(by('PROD'))));
  assert.ok(first.every((each) => each === first[0]));
  await settings.read(by('STAGE'));
  assert.deepEqual(shelf.reads, ['PROD', 'STAGE', 'default']);

  now += 59_999;
  await settings.read(by('PROD'));
  assert.equal(shelf.reads.length, 3);
  now += 1;
  shelf.books.PROD = { n: 2 };
  assert.deepEqual(await settings.read(by('PROD')), { n: 2 });
  now -= 3_600_000; // set back
  shelf.books.PROD = { n: 3 };
  assert.deepEqual(await settings.read(by('PROD')), { n: 3 });
});

test('an expired value serves on while it cannot be read, and is tried again after five seconds', async (t) => {
  const { warn } = console;
  const warned = [];
  console.warn = (text) => warned.push(text);
  t.after(() => (console.warn = warn));
  let now = 0;
  const shelf = new Shelf({ PROD: { n: 1 } });
  const settings = new Configuration(shelf, { clock: () => now });
  await settings.read(by('PROD'));
  shelf.failure = new runtime.ConfigurationUnreachable('shelf PROD', 'it is locked');
  now = 60_000;
  assert.deepEqual(await settings.read(by('PROD')), { n: 1 });
  now = 64_999;
  await settings.read(by('PROD'));
  assert.equal(shelf.reads.length, 2);
  assert.equal(warned.length, 1);
  assert.match(warned[0], /serves on: ConfigurationUnreachable: shelf PROD: it is locked/);
  now = 65_000;
  shelf.failure = undefined;
  shelf.books.PROD = { n: 2 };
  assert.deepEqual(await settings.read(by('PROD')), { n: 2 });
});

test('what was never read and cannot be is an error, and asked for again', async () => {
  const shelf = new Shelf({ PROD: { n: 1 } });
  shelf.failure = new runtime.ConfigurationUnreachable('shelf PROD', 'it is locked');
  const settings = new Configuration(shelf);
  await assert.rejects(settings.read(by('PROD')), runtime.ConfigurationUnreachable);
  shelf.failure = undefined;
  assert.deepEqual(await settings.read(by('PROD')), { n: 1 });
});

test('a shape names every problem, no value, and the likely typo', async () => {
  const found = { topc: 'secret', retries: 'secret', tags: ['a', 7], db: { hots: 'secret' }, more: 1 };
  const shape = { topic: 'string', retries: 'number', tags: 'string[]', db: { host: 'string' }, note: 'string?' };
  const settings = new Configuration(new Shelf({ default: found }), { shape });
  await assert.rejects(settings.read(null), (error) => {
    assert.equal(error.name, 'ConfigurationInvalid');
    assert.equal(
      error.what,
      '4 problems: topic is missing (there is topc); retries is text, and should be a number; ' +
        'tags[1] is a number, and should be text; db.host is missing (there is hots)',
    );
    assert.doesNotMatch(error.message, /secret/);
    return true;
  });
});

test('keys that the shape does not have are left out', async () => {
  const settings = new Configuration(new Shelf({ default: { topic: 't', next: 1 } }), { shape: { topic: 'string' } });
  assert.deepEqual(await settings.read(null), { topic: 't' });
});

test('a shape may be a function that throws', async () => {
  const shape = (found) => {
    if (!found.topic) throw new Error('no topic');
    return new Map(Object.entries(found));
  };
  assert.equal((await new Configuration(new Shelf({ default: { topic: 't' } }), { shape }).read(null)).get('topic'), 't');
  await assert.rejects(new Configuration(new Shelf({ default: {} }), { shape }).read(null), {
    name: 'ConfigurationInvalid',
    what: 'no topic',
  });
});

test('a file that is not JSON is named, and not quoted', async () => {
  const settings = new Configuration(new Files(folder({ 'default.json': 'password' })));
  await assert.rejects(settings.read(null), (error) => {
    assert.equal(error.name, 'ConfigurationInvalid');
    assert.doesNotMatch(error.message, /password/);
    return true;
  });
  await assert.rejects(new Configuration(new Files(folder({ 'default.json': '[]' }))).read(null), /it is not an object/);
});

test('parameters are read by path, page by page, decrypted, and typed by the shape', async () => {
  const pages = {
    '/greeting/PROD': [
      { Parameters: [{ Name: '/greeting/PROD/topic', Type: 'SecureString', Value: '7' }], NextToken: 'empty' },
      { Parameters: [], NextToken: 'last' },
      {
        Parameters: [
          { Name: '/greeting/PROD/retries', Type: 'String', Value: '3' },
          { Name: '/greeting/PROD/on', Type: 'String', Value: 'True' },
          { Name: '/greeting/PROD/tags', Type: 'StringList', Value: 'a,b' },
          { Name: '/greeting/PROD/one', Type: 'String', Value: 'c' },
          { Name: '/greeting/PROD/db/host', Type: 'String', Value: 'db.example' },
        ],
      },
    ],
  };
  const asked = [];
  const answer = (request, body) => {
    assert.equal(request.headers['x-amz-target'], 'AmazonSSM.GetParametersByPath');
    asked.push(JSON.parse(body));
    return [200, JSON.stringify(pages[asked.at(-1).Path]?.shift() ?? { Parameters: [] })];
  };
  await serving(answer, (port) =>
    withVariables(credentials(port), async () => {
      const shape = { topic: 'string', retries: 'number', on: 'boolean', tags: 'string[]', one: 'string[]', db: { host: 'string' } };
      const settings = new Configuration(new Parameters('/greeting/{alias}/'), { shape, fallback: null });
      assert.deepEqual(await settings.read(by('PROD')), {
        topic: '7',
        retries: 3,
        on: true,
        tags: ['a', 'b'],
        one: ['c'],
        db: { host: 'db.example' },
      });
      assert.deepEqual(asked.map((each) => each.NextToken), [undefined, 'empty', 'last']);
      assert.ok(asked.every((each) => each.Recursive && each.WithDecryption));
      await assert.rejects(settings.read(by('STAGE')), { name: 'ConfigurationMissing', where: 'SSM /greeting/STAGE/' });
    }),
  );
});

test('a refused read says what to allow', async () => {
  const denied = () => [400, '{"__type": "AccessDeniedException", "message": "not you"}'];
  await serving(denied, (port) =>
    withVariables(credentials(port), () =>
      assert.rejects(new Configuration(new Parameters('/greeting/{alias}')).read(by('PROD')), {
        name: 'ConfigurationUnreachable',
        message: /^SSM \/greeting\/PROD\/: AccessDeniedException: not you\. Allow the function's role ssm:GetParametersByPath/,
      }),
    ),
  );
});

test('a parameter that is both a value and a path is refused', async () => {
  const client = {
    getParametersByPath: async () => ({
      Parameters: [
        { Name: '/g/A/db', Type: 'String', Value: 'x' },
        { Name: '/g/A/db/host', Type: 'String', Value: 'y' },
        { Name: '/g/A/__proto__/polluted', Type: 'String', Value: 'y' },
      ],
    }),
  };
  await assert.rejects(new Configuration(new Parameters('/g/{alias}', { client })).read(by('A')), /db\/host is both/);
  assert.equal({}.polluted, undefined);
});

test("AppConfig's extension is asked where it listens", async () => {
  const paths = [];
  const answer = (request) => {
    paths.push(request.url);
    if (request.url.includes('/environments/PROD/')) return [200, '{"topic": "p"}'];
    return request.url.includes('/environments/default/') ? [404, '{}'] : [400, 'no permission'];
  };
  await serving(answer, (port) =>
    withVariables({ AWS_APPCONFIG_EXTENSION_HTTP_PORT: String(port) }, async () => {
      const settings = new Configuration(new AppConfig('greet ing', 'settings'));
      assert.deepEqual(await settings.read(by('PROD')), { topic: 'p' });
      assert.deepEqual(paths, ['/applications/greet%20ing/environments/PROD/configurations/settings']);
      await assert.rejects(settings.read(by('')), runtime.ConfigurationMissing);
      await assert.rejects(settings.read(by('STAGE')), /the extension answered 400: no permission\. Its role needs/);
    }),
  );
});

test("AppConfig's API is polled with the token of before, each once, and a worn-out one is replaced", async () => {
  const seen = [];
  const replies = [];
  const answer = (request, body) => {
    if (request.method === 'POST') {
      seen.push(JSON.parse(body));
      return [201, JSON.stringify({ InitialConfigurationToken: `initial-${seen.length}` })];
    }
    seen.push(new URL(request.url, 'http://here').searchParams.get('configuration_token'));
    const [status, text, interval = '0'] = replies.shift();
    const kind = status === 400 ? { 'x-amzn-errortype': 'BadRequestException' } : {};
    return [status, text, { 'next-poll-configuration-token': `next-${seen.length}`, 'next-poll-interval-in-seconds': interval, ...kind }];
  };
  await serving(answer, (port) =>
    withVariables({ ...credentials(port), AWS_APPCONFIG_EXTENSION_HTTP_PORT: '9' }, async () => {
      const settings = new Configuration(new AppConfig('greeting', 'settings'), { maxAge: 0 });
      replies.push([200, '{"n": 1}'], [200, ''], [400, '{}'], [200, '{"n": 2}', '3600']);
      assert.deepEqual(await settings.read(by('PROD')), { n: 1 });
      assert.deepEqual(await settings.read(by('PROD')), { n: 1 }); // unchanged
      assert.deepEqual(await settings.read(by('PROD')), { n: 2 });
      assert.deepEqual(await settings.read(by('PROD')), { n: 2 }); // not before an hour has passed
      const start = {
        ApplicationIdentifier: 'greeting',
        ConfigurationProfileIdentifier: 'settings',
        EnvironmentIdentifier: 'PROD',
      };
      assert.deepEqual(seen, [start, 'initial-1', 'next-2', 'next-3', start, 'initial-5']);
    }),
  );
});

test('who imports and who requires get the same', async () => {
  const imported = await import('pointsman-runtime');
  assert.equal(imported.NoAlias, runtime.NoAlias);
  assert.deepEqual(Object.keys(imported).sort(), Object.keys(runtime).sort());
});

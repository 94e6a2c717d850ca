'use strict';
/*
 * The Lambda runtime of a Node.js function: loads the handler named by _HANDLER, then asks the Runtime API for one
 * invocation after the other. Behaviour and messages are those of AWS's own runtime; no dependencies.
 */

const fs = require('node:fs');
const net = require('node:net');
const nodeModule = require('node:module');
const path = require('node:path');
const util = require('node:util');
const { pathToFileURL } = require('node:url');

require('./aws-sdk-v2.cjs');

const API = '/2018-06-01/runtime';
const { AWS_LAMBDA_RUNTIME_API: address, LAMBDA_TASK_ROOT: root, _HANDLER: handlerName } = process.env;

// ---- Log lines

const logFd = Number(process.env._LAMBDA_TELEMETRY_LOG_FD || 1);
const framed = '_LAMBDA_TELEMETRY_LOG_FD' in process.env;
delete process.env._LAMBDA_TELEMETRY_LOG_FD;
let requestId;

/** All of `data`, at once: whoever posts an answer next must know that its lines were written before. */
function writeFully(data) {
  for (let at = 0; at < data.length; ) {
    try {
      at += fs.writeSync(logFd, data, at);
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error; // the pipe is full for the moment; libuv made it non-blocking
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }
}

function log(level, ...parts) {
  const text = `${new Date().toISOString()}\t${requestId}\t${level}\t${util.format(...parts)}\n`;
  if (!framed) return writeFully(Buffer.from(text.slice(0, -1).replace(/\n/g, '\r') + '\n'));
  const message = Buffer.from(text);
  const head = Buffer.alloc(16); // type, length, microseconds: a message of many lines stays one
  head.writeUInt32BE(0xa55a0003, 0);
  head.writeUInt32BE(message.length, 4);
  head.writeBigUInt64BE(BigInt(Date.now()) * 1000n, 8);
  return writeFully(Buffer.concat([head, message]));
}

const levels = { trace: 'TRACE', debug: 'DEBUG', info: 'INFO', log: 'INFO', warn: 'WARN', error: 'ERROR', fatal: 'FATAL' };
for (const [method, level] of Object.entries(levels)) console[method] = (...parts) => log(level, ...parts);

function logError(title, thrown) {
  const described = (_key, value) =>
    value instanceof Error
      ? { errorType: value.name, errorMessage: value.message, code: value.code, ...value, stack: value.stack?.split('\n') }
      : value;
  let text;
  try {
    text = JSON.stringify(thrown instanceof Error ? thrown : new Error(thrown), described);
  } catch {
    text = JSON.stringify(errorDocument(thrown)); // a circular property
  }
  console.error(title, `\t${text}`);
}

// ---- Errors

function runtimeError(name, cause) {
  const error = new Error(cause instanceof Error ? String(cause) : cause);
  Object.defineProperty(error, 'name', { value: `Runtime.${name}` }); // not enumerable: it stays out of the log's JSON
  error.stack = cause instanceof Error && cause.stack ? `${error.name}: ${cause.stack}` : `${error.name}: ${error.message}`;
  return error;
}

function errorDocument(thrown) {
  try {
    if (util.types.isNativeError(thrown) || (thrown?.name && thrown.message && typeof thrown.stack === 'string')) {
      return { errorType: thrown.name, errorMessage: thrown.message, trace: String(thrown.stack).split('\n') };
    }
    return { errorType: typeof thrown, errorMessage: thrown.toString(), trace: [] };
  } catch {
    return {
      errorType: 'handled',
      errorMessage:
        'callback called with Error argument, but there was a problem while retrieving one or more of its message, name, and stack',
    };
  }
}

// ---- The Runtime API: one keep-alive connection, one request at a time

/**
 * `node:http` would cost a tenth of the start-up. The connection keeps the process alive only while a request is under
 * way (`ref`), so that Node notices when a handler has nothing left to do ("callbackWaitsForEmptyEventLoop").
 */
const [host, port] = address.split(':');
const socket = net.connect({ host, port: Number(port), noDelay: true });
let chunks = []; // of the answer under way; joined only when it may be whole, since an event can have megabytes
let size = 0;
let wanted = 0;
let answered = null;

socket.on('data', (chunk) => {
  chunks.push(chunk);
  size += chunk.length;
  if (size < wanted) return;
  const received = chunks.length > 1 ? Buffer.concat(chunks) : chunk;
  chunks = [received];
  const headEnd = received.indexOf('\r\n\r\n');
  if (headEnd < 0) return;
  const [status, ...lines] = received.toString('utf8', 0, headEnd).split('\r\n');
  const headers = Object.fromEntries(
    lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]),
  );
  wanted = headEnd + 4 + Number(headers['content-length']);
  if (size < wanted) return;
  const body = received.subarray(headEnd + 4, wanted);
  chunks = [];
  size = wanted = 0;
  socket.unref();
  answered({ status: Number(status.split(' ')[1]), headers, body });
});
socket.on('error', () => process.exit(1));
socket.on('close', () => process.exit(1)); // the server is gone: nobody will ever ask for anything again
socket.unref();

function request(method, where, body, headers = '') {
  const content = Buffer.from(body ?? '');
  socket.ref();
  socket.cork();
  socket.write(`${method} ${API}${where} HTTP/1.1\r\nHost: ${address}\r\n${headers}Content-Length: ${content.length}\r\n\r\n`);
  socket.write(content);
  socket.uncork();
  return new Promise((resolve) => {
    answered = resolve;
  });
}

function postError(where, thrown) {
  const document = errorDocument(thrown);
  const kind = String(document.errorType).replace(/[^\x20-\x7e]/g, '');
  return request('POST', where, JSON.stringify(document), `Lambda-Runtime-Function-Error-Type: ${kind}\r\n`);
}

// ---- Loading the handler

function isModuleFolder(folder) {
  for (; !folder.endsWith('/node_modules'); folder = path.dirname(folder)) {
    try {
      return JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8')).type === 'module';
    } catch (error) {
      if (error.code !== 'ENOENT') return false;
    }
    if (folder === path.dirname(folder)) return false;
  }
  return false;
}

function loadModule(folder, name) {
  const file = path.resolve(root, folder, name);
  const imported = (suffix) => {
    // A thread of its own answers for it: not where nothing lies in NODE_PATH
    if (process.env.NODE_PATH) nodeModule.register?.('./node-path.mjs', pathToFileURL(__filename));
    return import(pathToFileURL(file + suffix).href);
  };
  const typescript = Number(process.versions.node.split('.')[0]) >= 24;
  const isModule = isModuleFolder(path.dirname(file));
  const ways = [
    ['', require],
    ['.js', isModule ? null : require],
    ['.mjs', null],
    ['.cjs', require],
    ...(typescript ? [['.ts', isModule ? null : require], ['.mts', null], ['.cts', require]] : []),
  ];
  for (const [suffix, loader] of ways) {
    if (fs.statSync(file + suffix, { throwIfNoEntry: false })?.isFile()) {
      return loader ? loader(file + suffix) : imported(suffix);
    }
  }
  return require(require.resolve(name, { paths: [root, path.resolve(root, folder)] })); // from node_modules
}

async function loadHandler() {
  if (handlerName.includes('..')) {
    throw runtimeError(
      'MalformedHandlerName',
      `'${handlerName}' is not a valid handler name. Use absolute paths when specifying root directories in handler names.`,
    );
  }
  const base = path.basename(handlerName);
  const dot = base.indexOf('.');
  if (dot < 0) throw runtimeError('MalformedHandlerName', 'Bad handler');
  let loaded;
  try {
    loaded = await loadModule(handlerName.slice(0, handlerName.indexOf(base)), base.slice(0, dot));
  } catch (error) {
    if (error instanceof SyntaxError) throw runtimeError('UserCodeSyntaxError', error);
    if (error?.code === 'MODULE_NOT_FOUND') throw runtimeError('ImportModuleError', error);
    throw error;
  }
  const handler = base.slice(dot + 1).split('.').reduce((found, key) => found?.[key], loaded);
  if (!handler) throw runtimeError('HandlerNotFound', `${handlerName} is undefined or not exported`);
  if (typeof handler !== 'function') throw runtimeError('HandlerNotFound', `${handlerName} is not a function`);
  return handler;
}

// ---- Streaming handlers

const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming');
globalThis.awslambda = {
  streamifyResponse: (handler) => Object.assign(handler, { [STREAMING]: 'response' }),
  HttpResponseStream: {
    from(stream, prelude) {
      stream.setContentType('application/vnd.awslambda.http-integration-response');
      stream.write(JSON.stringify(prelude));
      stream.write(Buffer.alloc(8)); // eight zeros part the prelude from the body
      return stream;
    },
  },
};

const FAILED = 'Lambda-Runtime-Function-Error';

/**
 * The answer to invocation `id`: a stream whose chunks go out at once, and `fail` to end it with what went wrong. Both
 * `ended` and `fail` give what the Runtime API says in the end.
 */
function openAnswer(id) {
  const { Writable } = require('node:stream');
  const { finished } = require('node:stream/promises');
  let contentType = 'application/octet-stream';
  let ended = null; // as long as nothing was sent
  let trailers = '';
  const begin = () => {
    if (ended !== null) return;
    ended = new Promise((resolve) => {
      answered = resolve;
    });
    socket.ref();
    socket.write(
      `POST ${API}/invocation/${id}/response HTTP/1.1\r\nHost: ${address}\r\nContent-Type: ${contentType}\r\n` +
        'Lambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n' +
        `Trailer: ${FAILED}-Type, ${FAILED}-Body\r\n\r\n`,
    );
  };
  const stream = new Writable({
    write(chunk, _encoding, done) {
      if (chunk.length === 0) return done(); // a chunk of no length would end the answer
      begin();
      socket.cork();
      socket.write(`${chunk.length.toString(16)}\r\n`);
      socket.write(chunk);
      socket.write('\r\n', done);
      return socket.uncork();
    },
    final(done) {
      begin();
      socket.write(`0\r\n${trailers}\r\n`, done);
    },
  });
  stream.setContentType = (type) => {
    contentType = type;
  };
  const whole = finished(stream);
  whole.catch(() => {}); // it is awaited only once the handler has returned
  return {
    stream,
    async ended() {
      await whole;
      return ended;
    },
    async fail(thrown) {
      // Nothing was sent yet, or all was, and what fails now is what the handler left behind
      if (ended === null || stream.writableFinished) return postError(`/invocation/${id}/error`, thrown);
      const document = errorDocument(thrown);
      const kind = String(document.errorType).replace(/[^\x20-\x7e]/g, '');
      const body = Buffer.from(JSON.stringify(document)).toString('base64');
      trailers = `${FAILED}-Type: ${kind}\r\n${FAILED}-Body: ${body}\r\n`;
      if (stream.destroyed) socket.write(`0\r\n${trailers}\r\n`);
      else if (!stream.writableEnded) stream.end();
      return ended;
    },
  };
}

async function streamOnce(handler, event, context, answer) {
  try {
    await handler(event, answer.stream, context);
    await answer.ended();
  } catch (thrown) {
    logError('Invoke Error', thrown);
    await answer.fail(thrown);
  }
}

// ---- Invocations

let emptyLoop = null; // what to do when nothing is left to do
process.on('beforeExit', () => emptyLoop?.());

let reportFatal = (error) => postError('/init/error', error);
process.on('uncaughtException', (error) => {
  logError('Uncaught Exception', error);
  reportFatal(error).then(() => process.exit(129));
});
process.on('unhandledRejection', (reason, promise) => {
  const error = Object.assign(runtimeError('UnhandledPromiseRejection', reason instanceof Error ? reason : String(reason)), {
    reason,
    promise,
  });
  logError('Unhandled Promise Rejection', error);
  reportFatal(error).then(() => process.exit(128));
});

function header(headers, name, parse = (text) => text) {
  const text = headers[`lambda-runtime-${name}`];
  return text === undefined ? undefined : parse(text);
}

function invokeOnce(handler, { headers, body }) {
  requestId = header(headers, 'aws-request-id');
  const trace = header(headers, 'trace-id');
  if (trace) process.env._X_AMZN_TRACE_ID = trace;
  else delete process.env._X_AMZN_TRACE_ID;
  const id = requestId;
  reportFatal = (error) => postError(`/invocation/${id}/error`, error);

  return new Promise((next) => {
    let done = false; // only the first answer counts
    let waits = true;

    const fail = (thrown) => {
      logError('Invoke Error', thrown);
      postError(`/invocation/${id}/error`, thrown).then(next);
    };
    const succeed = (result) => {
      let text;
      try {
        text = Buffer.isBuffer(result) ? result : JSON.stringify(result === undefined ? null : result) ?? 'null';
      } catch {
        return fail(new Error('Unable to stringify response body'));
      }
      return request('POST', `/invocation/${id}/response`, text, 'Content-Type: application/json\r\n').then(next);
    };
    const once = (answer) => (...values) => {
      if (done) return;
      done = true;
      emptyLoop = null;
      answer(...values);
    };
    const isSet = (thrown) => thrown !== undefined && thrown !== null;
    const finish = once((thrown, result) => (isSet(thrown) ? fail(thrown) : succeed(result)));

    const callback = once((thrown, result) => {
      if (isSet(thrown)) fail(thrown);
      else if (!waits) succeed(result);
      else {
        emptyLoop = () => {
          emptyLoop = null;
          setImmediate(succeed, result);
        };
      }
    });
    const context = {
      get callbackWaitsForEmptyEventLoop() {
        return waits;
      },
      set callbackWaitsForEmptyEventLoop(value) {
        waits = value;
      },
      done: finish,
      succeed: (result) => finish(null, result),
      fail: (thrown) => finish(isSet(thrown) ? thrown : 'handled'),
      functionVersion: process.env.AWS_LAMBDA_FUNCTION_VERSION,
      functionName: process.env.AWS_LAMBDA_FUNCTION_NAME,
      memoryLimitInMB: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
      logGroupName: process.env.AWS_LAMBDA_LOG_GROUP_NAME,
      logStreamName: process.env.AWS_LAMBDA_LOG_STREAM_NAME,
      clientContext: header(headers, 'client-context', JSON.parse),
      identity: header(headers, 'cognito-identity', JSON.parse),
      invokedFunctionArn: header(headers, 'invoked-function-arn'),
      awsRequestId: id,
      getRemainingTimeInMillis: () => Number(header(headers, 'deadline-ms')) - Date.now(),
    };

    // Nothing is left to do, and nobody has answered: a plain handler means null, an async one has lost its promise
    emptyLoop = once(() => {
      if (handler.constructor?.name !== 'AsyncFunction') return succeed(null);
      return fail(runtimeError('NodeJsExit', 'nodejs process exited without fulfilling a promise'));
    });
    try {
      const event = JSON.parse(body.toString('utf8'));
      if (handler[STREAMING]) {
        const answer = openAnswer(id);
        reportFatal = answer.fail;
        emptyLoop = once(() => {
          const lost = runtimeError('NodeJsExit', 'nodejs process exited without ending the response stream');
          logError('Invoke Error', lost);
          answer.fail(lost).then(next);
        });
        streamOnce(handler, event, context, answer).then(() => {
          emptyLoop = null;
          next();
        });
        return;
      }
      const result = handler(event, context, callback);
      if (typeof result?.then === 'function') result.then(context.succeed, context.fail);
    } catch (thrown) {
      finish(thrown);
    }
  });
}

async function run() {
  let handler;
  try {
    handler = await loadHandler();
  } catch (error) {
    logError('Uncaught Exception', error);
    await postError('/init/error', error);
    process.exit(129);
  }
  for (;;) {
    await invokeOnce(handler, await request('GET', '/invocation/next'));
    requestId = undefined;
    await new Promise(setImmediate); // what the handler left behind has its turn first
  }
}

run();

'use strict';

// Where configurations are. A source has `maxAge` (seconds), `where(name)`, and `read(name)`, which answers a promise of
// the configuration called `name`, or of undefined where there is none. `name` is an alias, or the name to fall back to.

const { ConfigurationInvalid, ConfigurationUnreachable } = require('./errors.cjs');

class Files {
  maxAge = Infinity; // a version's package never changes
  #folder;

  constructor(folder = 'config') {
    this.#folder = require('node:path').resolve(process.env.LAMBDA_TASK_ROOT ?? '.', folder);
  }

  where(name) {
    return `${this.#folder}/${name}.json`;
  }

  async read(name) {
    let data;
    try {
      data = require('node:fs').readFileSync(this.where(name), 'utf8');
    } catch (error) {
      if (error.code === 'ENOENT') return undefined;
      throw new ConfigurationUnreachable(this.where(name), `it cannot be read (${error.code})`, '', { cause: error });
    }
    return parsed(data, this.where(name));
  }
}

// https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParametersByPath.html
class Parameters {
  texts = true;
  #path;
  #client;

  constructor(path, { maxAge = 300, client = undefined } = {}) {
    if (!path.startsWith('/') || !path.includes('{alias}')) {
      throw new TypeError(`'${path}' must begin with / and hold {alias}, for example '/greeting/{alias}'`);
    }
    this.#path = path.replace(/\/+$/, '');
    this.#client = client;
    this.maxAge = maxAge;
  }

  where(name) {
    return `SSM ${this.#of(name)}/`;
  }

  #of(name) {
    return this.#path.replaceAll('{alias}', name);
  }

  async read(name) {
    this.#client ??= new (sdk('@aws-sdk/client-ssm', this.where(name)).SSM)(patience());
    const found = {};
    const asked = { Path: this.#of(name), Recursive: true, WithDecryption: true };
    do { // a page may be empty, and not the last
      const page = await this.#client.getParametersByPath(asked).catch((error) => {
        throw unreachable(this.where(name), error, 'ssm:GetParametersByPath on it, and kms:Decrypt for a key of your own');
      });
      for (const { Name, Type, Value } of page.Parameters ?? []) {
        this.#put(found, name, Name.slice(asked.Path.length + 1), Type === 'StringList' ? Value.split(',') : Value);
      }
      asked.NextToken = page.NextToken;
    } while (asked.NextToken);
    return Object.keys(found).length ? found : undefined;
  }

  #put(found, name, key, value) {
    const above = key.split('/');
    const last = above.pop();
    let at = found;
    for (const part of above) {
      if (isObject(at)) at = Object.hasOwn(at, part) ? at[part] : put(at, part, {});
    }
    if (!isObject(at) || Object.hasOwn(at, last)) {
      throw new ConfigurationInvalid(this.where(name), `${key} is both a value and a path`, 'Rename one of them.');
    }
    put(at, last, value);
  }
}

// https://docs.aws.amazon.com/appconfig/latest/userguide/appconfig-integration-lambda-extensions.html
class AppConfig {
  #application;
  #profile;
  #environment;
  #client;
  #sessions = new Map();

  constructor(application, profile, { environment = '{alias}', maxAge = 60, client = undefined } = {}) {
    this.#application = application;
    this.#profile = profile;
    this.#environment = environment;
    this.#client = client;
    this.maxAge = maxAge;
  }

  where(name) {
    return `AppConfig ${this.#application}/${this.#of(name)}/${this.#profile}`;
  }

  #of(name) {
    return this.#environment.replaceAll('{alias}', name);
  }

  async read(name) {
    let data;
    try {
      data = this.#client ? await this.#byApi(name) : await this.#byExtension(name);
    } catch (error) {
      if (error.code !== 'ECONNREFUSED') throw error;
      data = await this.#byApi(name); // the layer is not there
    }
    return data ? parsed(data, this.where(name)) : undefined;
  }

  async #byExtension(name) {
    const port = Number(process.env.AWS_APPCONFIG_EXTENSION_HTTP_PORT ?? 2772);
    const places = ['applications', this.#application, 'environments', this.#of(name), 'configurations', this.#profile];
    const path = `/${places.map(encodeURIComponent).join('/')}`;
    const { status, body } = await get({ host: 'localhost', port, path, timeout: 10_000 }).catch((error) => {
      if (error.code === 'ECONNREFUSED') throw error;
      throw new ConfigurationUnreachable(this.where(name), `the extension does not answer (${error.message})`, '', {
        cause: error,
      });
    });
    if (status === 404) return undefined;
    if (status !== 200) {
      const next = [400, 401, 403].includes(status) ? `Its role needs ${MAY_READ}; its log is the function's.` : '';
      throw new ConfigurationUnreachable(this.where(name), `the extension answered ${status}: ${body.slice(0, 200)}`, next);
    }
    return body;
  }

  async #byApi(name) {
    const client = (this.#client ??= new (sdk('@aws-sdk/client-appconfigdata', this.where(name)).AppConfigData)(patience()));
    const session = this.#sessions.get(name);
    if (session && Date.now() < session.notBefore) return session.data;
    this.#sessions.delete(name); // whatever happens now, its token is used
    try {
      return await this.#poll(client, name, session ?? (await this.#start(client, name))).catch(async (error) => {
        if (error.name !== 'BadRequestException' || !session) throw error;
        return this.#poll(client, name, await this.#start(client, name)); // the token was used, or is older than a day
      });
    } catch (error) {
      if (error.name === 'ResourceNotFoundException') return undefined;
      throw unreachable(this.where(name), error, MAY_READ);
    }
  }

  async #start(client, name) {
    const started = await client.startConfigurationSession({
      ApplicationIdentifier: this.#application,
      EnvironmentIdentifier: this.#of(name),
      ConfigurationProfileIdentifier: this.#profile,
    });
    return { token: started.InitialConfigurationToken };
  }

  // Each token is good for one call; the answer is empty where nothing changed since the last.
  async #poll(client, name, session) {
    const reply = await client.getLatestConfiguration({ ConfigurationToken: session.token });
    const data = reply.Configuration?.length ? Buffer.from(reply.Configuration).toString() : session.data;
    const notBefore = Date.now() + (reply.NextPollIntervalInSeconds ?? 0) * 1000;
    this.#sessions.set(name, { token: reply.NextPollConfigurationToken, data, notBefore });
    return data;
  }
}

const MAY_READ = 'appconfig:StartConfigurationSession and appconfig:GetLatestConfiguration';

function parsed(data, where) {
  try {
    return JSON.parse(data);
  } catch { // V8's message quotes the text, which may be a password
    throw new ConfigurationInvalid(where, 'it is not JSON');
  }
}

// A key may be __proto__, and is then a key like any other, as in JSON.parse.
function put(at, key, value) {
  Object.defineProperty(at, key, { value, enumerable: true, configurable: true, writable: true });
  return value;
}

function isObject(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function get(options) {
  return new Promise((resolve, reject) => {
    const request = require('node:http').get(options, (reply) => {
      const parts = [];
      reply.on('data', (part) => parts.push(part));
      reply.on('end', () => resolve({ status: reply.statusCode, body: Buffer.concat(parts).toString() }));
      reply.on('error', reject);
    });
    request.on('timeout', () => request.destroy(new Error(`nothing for ${options.timeout / 1000} seconds`)));
    request.on('error', reject);
  });
}

// Not `import()`: only require looks into NODE_PATH, by which Lambda's runtimes bring the SDK.
function sdk(name, where) {
  try {
    return require(name);
  } catch (error) {
    const next = `Lambda's runtimes bring it; elsewhere, and in bundles, add it to your dependencies.`;
    throw new ConfigurationUnreachable(where, `${name} is not there (${error.code})`, next, { cause: error });
  }
}

// The SDK itself waits for ever, and functions do not live that long.
function patience() {
  return { maxAttempts: 3, requestHandler: { connectionTimeout: 2000, requestTimeout: 5000 } };
}

function unreachable(where, error, actions) {
  const next = String(error.name).includes('AccessDenied') ? `Allow the function's role ${actions}.` : '';
  return new ConfigurationUnreachable(where, `${error.name}: ${error.message}`.replace(/\.$/, ''), next, { cause: error });
}

module.exports = { Files, Parameters, AppConfig, isObject };

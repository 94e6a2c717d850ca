'use strict';

// Inside a Lambda handler: which alias was called, and the configuration for it.
//
//   const { configuration } = require('pointsman-runtime');
//
//   exports.handler = async (event, context) => {
//     const { topic } = await configuration(context);   // config/STAGE.json when called by STAGE, else config/default.json
//   };

const {
  ConfigurationError,
  ConfigurationInvalid,
  ConfigurationMissing,
  ConfigurationUnreachable,
  NoAlias,
} = require('./lib/errors.cjs');
const { AppConfig, Files, Parameters, isObject } = require('./lib/sources.cjs');

const RETRY_AFTER = 5; // seconds that an expired value serves on after a refresh failed, before the next try

function alias(context) {
  const arn = typeof context === 'string' ? context : context?.invokedFunctionArn;
  if (context === undefined || context === null) return undefined;
  const parts = typeof arn === 'string' ? arn.split(':') : [];
  if (![7, 8].includes(parts.length) || parts[0] !== 'arn' || parts[5] !== 'function') {
    throw new TypeError(`${typeof context} is not a handler's context: it has no invokedFunctionArn`);
  }
  const qualifier = parts[7] ?? '';
  return qualifier === '' || /^\d+$/.test(qualifier) || qualifier.startsWith('$') ? undefined : qualifier;
}

class Configuration {
  #source;
  #shape;
  #fallback;
  #maxAge;
  #clock;
  #kept = new Map(); // one environment serves every alias that its version has, so each has its own

  constructor(source = new Files(), { shape, fallback = 'default', maxAge = source.maxAge, clock = Date.now } = {}) {
    this.#source = source;
    this.#shape = shape;
    this.#fallback = fallback ?? undefined;
    this.#maxAge = maxAge * 1000;
    // Not the monotonic clock: it stands still while Lambda has frozen the environment, and SnapStart copies it.
    this.#clock = clock;
  }

  async read(context) {
    const name = alias(context);
    if (!this.#kept.has(name)) this.#kept.set(name, { known: false, since: 0, until: 0 });
    const kept = this.#kept.get(name);
    const now = this.#clock();
    // A clock set back must not keep a value for ever: hence `since`.
    if (!(kept.known && kept.since <= now && now < kept.until)) {
      kept.reading ??= this.#refresh(name, kept, now).finally(() => (kept.reading = undefined));
      await kept.reading; // not in the background: Lambda freezes that, and its connections break
    }
    return kept.value;
  }

  async #refresh(name, kept, now) {
    kept.since = now;
    try {
      kept.value = await this.#find(name);
      kept.known = true;
      kept.until = now + this.#maxAge;
    } catch (error) {
      if (!kept.known || !(error instanceof ConfigurationError)) throw error;
      console.warn(`the configuration of before serves on: ${error.name}: ${error.message}`);
      kept.until = now + RETRY_AFTER * 1000;
    }
  }

  async #find(name) {
    const asked = [...new Set([name, this.#fallback])].filter((each) => each !== undefined);
    if (!asked.length) {
      throw new NoAlias(
        'the invocation',
        'it came without an alias, and there is no fallback',
        'Call the function by an alias (the ARN ends in :PROD, or Qualifier=PROD), or give a `fallback`.',
      );
    }
    for (const each of asked) {
      const found = await this.#source.read(each);
      if (found !== undefined) return this.#shaped(found, this.#source.where(each));
    }
    const places = asked.map((each) => this.#source.where(each)).join(' and ');
    throw new ConfigurationMissing(places, 'there is no configuration', 'Write one, or correct the name.');
  }

  async #shaped(found, where) {
    const next = 'Correct it, or the shape it should have.';
    if (typeof this.#shape === 'function') {
      try {
        return await this.#shape(found);
      } catch (error) {
        throw new ConfigurationInvalid(where, error.message, next, { cause: error });
      }
    }
    if (this.#shape === undefined) {
      if (isObject(found)) return found;
      throw new ConfigurationInvalid(where, 'it is not an object', next);
    }
    const { value, problems } = require('./lib/shape.cjs').shaped(found, this.#shape, this.#source.texts === true);
    if (problems.length) {
      const what = problems.length === 1 ? problems[0] : `${problems.length} problems: ${problems.join('; ')}`;
      throw new ConfigurationInvalid(where, what, next);
    }
    return value;
  }
}

let files;

async function configuration(context) {
  files ??= new Configuration();
  return files.read(context);
}

// Names only, so that `import { alias }` from this file works too: Node reads them without running it.
module.exports = {
  alias,
  configuration,
  Configuration,
  Files,
  Parameters,
  AppConfig,
  ConfigurationError,
  NoAlias,
  ConfigurationMissing,
  ConfigurationInvalid,
  ConfigurationUnreachable,
};

'use strict';

// What can go wrong, each with where, what, and what to do next. No value of a configuration is ever named.
class ConfigurationError extends Error {
  constructor(where, what, next = '', options = undefined) {
    super(`${where}: ${what}.${next && ` ${next}`}`, options);
    this.where = where;
    this.what = what;
    this.next = next;
  }

  get name() {
    return this.constructor.name;
  }
}

class NoAlias extends ConfigurationError {}
class ConfigurationMissing extends ConfigurationError {}
class ConfigurationInvalid extends ConfigurationError {}
class ConfigurationUnreachable extends ConfigurationError {}

module.exports = { ConfigurationError, NoAlias, ConfigurationMissing, ConfigurationInvalid, ConfigurationUnreachable };

'use strict';

const { greet } = require('./lib/greeter');
const { aliasOf } = require('./lib/qualifier');

// { name, languages? } in; { greeting, alias, version } out.
// The alias is how one version can behave differently in STAGE and PROD: choose tables, topics … by it.
exports.handler = async (event, context) => ({
  greeting: greet(event),
  alias: aliasOf(context.invokedFunctionArn),
  version: context.functionVersion,
});

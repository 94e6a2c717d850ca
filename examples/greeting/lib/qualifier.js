'use strict';

// arn:aws:lambda:REGION:ACCOUNT:function:NAME[:QUALIFIER] → the alias, or null when called by number or not qualified.
function aliasOf(arn) {
  const qualifier = arn.split(':')[7];
  return qualifier === undefined || /^(\d+|\$.*)$/.test(qualifier) ? null : qualifier;
}

module.exports = { aliasOf };

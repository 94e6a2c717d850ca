'use strict';

const assert = require('node:assert/strict');
const { handler } = require('../index');

const ARN = 'arn:aws:lambda:eu-west-1:123456789012:function:GreetingLambda';

function called(invokedFunctionArn, functionVersion) {
  return handler({ name: 'Ada' }, { invokedFunctionArn, functionVersion });
}

describe('handler', () => {
  it('knows the alias it was called by, and the version that answers', async () => {
    assert.deepEqual(await called(`${ARN}:STAGE`, '7'), { greeting: 'Hello, Ada!', alias: 'STAGE', version: '7' });
  });

  for (const [arn, version] of [[ARN, '$LATEST'], [`${ARN}:$LATEST`, '$LATEST'], [`${ARN}:7`, '7']]) {
    it(`has no alias when called as ${arn.split(':function:')[1]}`, async () => {
      assert.equal((await called(arn, version)).alias, null);
    });
  }
});

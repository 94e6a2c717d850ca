'use strict';

const { InvokeCommand, LambdaClient } = require('@aws-sdk/client-lambda');

const lambda = new LambdaClient({});

// What callers of the function do. The qualifier is the point: without one they would get $LATEST, which is nobody's release.
async function greeting(event, { functionName, qualifier }) {
  const reply = await lambda.send(
    new InvokeCommand({ FunctionName: functionName, Qualifier: qualifier, Payload: JSON.stringify(event) }),
  );
  const answer = JSON.parse(Buffer.from(reply.Payload).toString());
  if (reply.FunctionError) {
    throw new Error(`${answer.errorType}: ${answer.errorMessage}`);
  }
  return { ...answer, executedVersion: reply.ExecutedVersion };
}

module.exports = { greeting };

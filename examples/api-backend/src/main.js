'use strict';

const { answer } = require('./routes');

// API Gateway's event in, its answer out. https://docs.aws.amazon.com/lambda/latest/dg/services-apigateway.html
exports.handler = async (event, context) => {
  const method = event.requestContext?.http?.method ?? event.httpMethod ?? 'GET';
  const path = event.rawPath ?? event.path ?? '/';
  const { status, body } = answer(method, path);
  return {
    statusCode: status,
    headers: { 'content-type': 'application/json', 'x-version': context.functionVersion },
    body: JSON.stringify(body),
  };
};

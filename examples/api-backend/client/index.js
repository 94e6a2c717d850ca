'use strict';

const { createHash, createHmac } = require('node:crypto');

// Invokes a version or an alias, as the AWS SDK would; written out so that this example has nothing to install.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
async function invoke(event, { functionName, qualifier }) {
  const { AWS_REGION: region, AWS_ACCESS_KEY_ID: key, AWS_SECRET_ACCESS_KEY: secret, AWS_SESSION_TOKEN: token } = process.env;
  const url = new URL(process.env.AWS_ENDPOINT_URL ?? `https://lambda.${region}.amazonaws.com`);
  url.pathname = `/2015-03-31/functions/${functionName}/invocations`;
  url.search = `Qualifier=${encodeURIComponent(qualifier)}`;
  const body = JSON.stringify(event);
  const time = new Date().toISOString().replace(/[-:]|\.\d{3}/g, '');
  const headers = { host: url.host, 'x-amz-date': time, ...(token && { 'x-amz-security-token': token }) };
  const names = Object.keys(headers).join(';');
  const sha256 = (text) => createHash('sha256').update(text).digest('hex');
  const hmac = (by, text) => createHmac('sha256', by).update(text).digest();
  const lines = Object.entries(headers).map(([name, value]) => `${name}:${value}\n`);
  const request = ['POST', url.pathname, url.search.slice(1), lines.join(''), names, sha256(body)].join('\n');
  const scope = [time.slice(0, 8), region, 'lambda', 'aws4_request'];
  const signed = ['AWS4-HMAC-SHA256', time, scope.join('/'), sha256(request)].join('\n');
  const signature = createHmac('sha256', scope.reduce(hmac, `AWS4${secret}`)).update(signed).digest('hex');
  const authorization = `AWS4-HMAC-SHA256 Credential=${key}/${scope.join('/')}, SignedHeaders=${names}, Signature=${signature}`;
  const reply = await fetch(url, { method: 'POST', body, headers: { ...headers, authorization } });
  const answer = await reply.json();
  if (!reply.ok || reply.headers.has('x-amz-function-error')) {
    throw new Error(answer.errorMessage ?? answer.message ?? answer.Message ?? reply.statusText);
  }
  return { ...answer, executedVersion: reply.headers.get('x-amz-executed-version') };
}

module.exports = { invoke };

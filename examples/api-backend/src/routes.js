'use strict';

const stations = [
  { id: 'york', platforms: 11 },
  { id: 'crewe', platforms: 12 },
];

function answer(method, path) {
  if (method !== 'GET') {
    return { status: 405, body: { error: `${method} is not allowed` } };
  }
  if (path === '/stations') {
    return { status: 200, body: stations };
  }
  const found = stations.find(({ id }) => path === `/stations/${id}`);
  return found ? { status: 200, body: found } : { status: 404, body: { error: `there is no ${path}` } };
}

module.exports = { answer };

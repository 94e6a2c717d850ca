/*
 * ES modules are looked for in NODE_PATH, too: Lambda's Node.js does that since 18, the plain one for `require` only.
 */

import path from 'node:path';
import { pathToFileURL } from 'node:url';

// What lies in F/node_modules is what a file in F finds; a folder by another name cannot be told Node this way.
const folders = (process.env.NODE_PATH || '').split(path.delimiter).filter((each) => path.basename(each) === 'node_modules');
const parents = folders.map((each) => pathToFileURL(path.join(each, '..', 'importer.mjs')).href);

export async function resolve(specifier, context, nextResolve) {
  try {
    return await nextResolve(specifier, context);
  } catch (error) {
    if (error.code !== 'ERR_MODULE_NOT_FOUND' || /^(\.{0,2}\/|[a-z]+:)/.test(specifier)) throw error;
    for (const parentURL of parents) {
      try {
        return await nextResolve(specifier, { ...context, parentURL });
      } catch {
        // nor in this one
      }
    }
    throw error;
  }
}

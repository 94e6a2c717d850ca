'use strict';
/*
 * The AWS SDK for JavaScript v2 does not read AWS_ENDPOINT_URL; v3 does. `node --require` this file, and v2 does too.
 *
 * Loading 'aws-sdk', one of its files, or 'aws-sdk/clients/…', sets the endpoint on the configuration that all its
 * clients share. A client given an endpoint of its own keeps it. A copy of v2 that a bundler has compiled into the
 * package cannot be seen from here.
 */

const Module = require('node:module');

const endpoint = process.env.AWS_ENDPOINT_URL;
const OURS = /(^|[\\/]node_modules[\\/])aws-sdk([\\/]|$)/;
const configured = new WeakSet();

if (endpoint) {
  const load = Module._load;
  let inside = false;
  Module._load = function (request, parent, ...rest) {
    if (inside || !OURS.test(request)) return load.call(this, request, parent, ...rest);
    inside = true; // the SDK's own requires
    try {
      const loaded = load.call(this, request, parent, ...rest);
      // Only after loading: the SDK replaces its configuration once while it loads
      const file = Module._resolveFilename(request, parent);
      const [folder] = file.match(/^.*[\\/]aws-sdk(?=[\\/])/); // of the very copy that was loaded: there may be several
      const { config } = load.call(this, `${folder}/lib/core`, parent);
      if (config && !configured.has(config)) {
        configured.add(config);
        config.update({ endpoint, s3ForcePathStyle: true });
      }
      return loaded;
    } finally {
      inside = false;
    }
  };
}

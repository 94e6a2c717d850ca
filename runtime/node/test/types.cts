import runtime = require('pointsman-runtime');

const settings = new runtime.Configuration(new runtime.Files(), { shape: { topic: 'string' } });
const topic: Promise<string> = settings.read(null).then((config) => config.topic);
void topic;

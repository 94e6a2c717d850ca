'use strict';

// npm run --silent greet -- PROD Ada [languages]
const { greeting } = require('.');

const [qualifier, name, languages] = process.argv.slice(2);
if (!qualifier || !name) {
  console.error('usage: npm run --silent greet -- ALIAS|VERSION NAME [LANGUAGES]');
  process.exit(2);
}
greeting({ name, languages }, { functionName: process.env.POINTSMAN_FUNCTION ?? 'GreetingLambda', qualifier }).then(
  (answer) => console.log(`${qualifier} answers "${answer.greeting}" (version ${answer.executedVersion})`),
  (error) => {
    console.error(error.message);
    process.exitCode = 1;
  },
);

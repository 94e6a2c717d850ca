// One implementation, so that `instanceof` and what is kept are the same for whoever imports and whoever requires.
import runtime from './index.cjs';

export const {
  alias,
  configuration,
  Configuration,
  Files,
  Parameters,
  AppConfig,
  ConfigurationError,
  NoAlias,
  ConfigurationMissing,
  ConfigurationInvalid,
  ConfigurationUnreachable,
} = runtime;

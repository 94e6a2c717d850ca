/** What a handler gets as its second argument, as far as it matters here. */
export interface Invoked {
  invokedFunctionArn: string;
}

/**
 * The alias this invocation came by, or undefined: by a version's number, by `$LATEST`, or without a qualifier.
 * No context stands for that of a unit test, and has no alias.
 */
export function alias(context: Invoked | string | null | undefined): string | undefined;

/** `config/<alias>.json` of the package, or `config/default.json`: `new Configuration()`, ready made. */
export function configuration(context: Invoked | string | null | undefined): Promise<Record<string, any>>;

type Base = { string: string; number: number; boolean: boolean; object: Record<string, unknown>; any: any };

/** `'string'`, `'number'`, `'boolean'`, `'object'`, `'any'`; a list of them with `[]`; may be missing with `?`. */
export type Kind = `${keyof Base}${'' | '[]'}${'' | '?'}`;

export interface Shape {
  readonly [key: string]: Kind | Shape;
}

type OfKind<K> = K extends `${infer Rest}?`
  ? OfKind<Rest>
  : K extends `${infer Rest}[]`
    ? OfKind<Rest>[]
    : K extends keyof Base
      ? Base[K]
      : never;

/** The type of a configuration of this shape. */
export type Shaped<S> = {
  [K in keyof S as S[K] extends `${string}?` ? never : K]: S[K] extends string ? OfKind<S[K]> : Shaped<S[K]>;
} & { [K in keyof S as S[K] extends `${string}?` ? K : never]?: OfKind<S[K]> };

export interface Options {
  /**
   * Whose configuration serves an alias that has none of its own, a version's number and `$LATEST`; `'default'` unless
   * told. One or the other, never a mixture. null: NoAlias and ConfigurationMissing are thrown instead.
   */
  fallback?: string | null;
  /** Seconds until it is read again. An expired one serves on when that fails, with a warning in the log. */
  maxAge?: number;
  /** Milliseconds since 1970. */
  clock?: () => number;
}

/** The configuration of each alias, kept for as long as its source says. Make one, outside of the handler. */
export interface Configuration<T = Record<string, any>> {
  /** The configuration for the alias of this invocation: one object for everybody. Rejects with a ConfigurationError. */
  read(context: Invoked | string | null | undefined): Promise<T>;
}

export const Configuration: {
  /** `shape` says which keys it must have, of which kind; keys that it does not have are left out. */
  new <const S extends Shape>(source: Source | undefined, options: Options & { shape: S }): Configuration<Shaped<S>>;
  /** `shape` checks by itself (zod's `parse` …), and throws. */
  new <T>(
    source: Source | undefined,
    options: Options & { shape: (found: any) => T | Promise<T> },
  ): Configuration<T>;
  new <T = Record<string, any>>(source?: Source, options?: Options): Configuration<T>;
};

/** Where configurations are. Yours may be another: anything with these three. */
export interface Source {
  /** Seconds that what was read stays good. */
  readonly maxAge: number;
  /** Whether numbers, truth and JSON may come as text. */
  readonly texts?: boolean;
  where(name: string): string;
  /** The configuration called `name` (an alias, or the fallback), undefined where there is none, or a ConfigurationError. */
  read(name: string): Promise<unknown>;
}

/** `<folder>/<name>.json` of the package. */
export class Files implements Source {
  constructor(folder?: string);
  readonly maxAge: number;
  where(name: string): string;
  read(name: string): Promise<unknown>;
}

/**
 * The SSM parameters under a path, decrypted: `/greeting/STAGE/db/host` is `config.db.host`. Values are text, a
 * StringList a list of them; by a shape they become numbers, truth and JSON.
 */
export class Parameters implements Source {
  constructor(path: string, options?: { maxAge?: number; client?: unknown });
  readonly maxAge: number;
  readonly texts: boolean;
  where(name: string): string;
  read(name: string): Promise<unknown>;
}

/**
 * A JSON configuration profile (feature flags, too), with one AppConfig environment per alias. Asked of the AppConfig
 * extension where its layer is (which keeps and refreshes by itself), else of AppConfig's API.
 */
export class AppConfig implements Source {
  constructor(
    application: string,
    profile: string,
    options?: { environment?: string; maxAge?: number; client?: unknown },
  );
  readonly maxAge: number;
  where(name: string): string;
  read(name: string): Promise<unknown>;
}

/** `where` it was looked for, `what` is wrong, what to do `next`. No value of a configuration is ever named. */
export class ConfigurationError extends Error {
  constructor(where: string, what: string, next?: string, options?: { cause?: unknown });
  readonly where: string;
  readonly what: string;
  readonly next: string;
}

/** The function was called without an alias, and there is no fallback. */
export class NoAlias extends ConfigurationError {}

/** There is none for the alias, and none to fall back to. */
export class ConfigurationMissing extends ConfigurationError {}

/** It is there, and not what was asked for. `what` names every problem at once. */
export class ConfigurationInvalid extends ConfigurationError {}

/** It could not be read: a permission, the network, the service. */
export class ConfigurationUnreachable extends ConfigurationError {}

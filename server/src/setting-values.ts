import { parseUsdcPrice } from './kernel/money.ts';
import { StartupError } from './kernel/startup-error.ts';

/** The settings as they are given from outside. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** What was given, if anything: an empty setting is one that isn't there. */
export function textOf(env: Environment, name: string): string | undefined {
  return env[name] || undefined;
}

/** One of these words, or the standard one where none is given. */
export function oneOf<const Value extends string>(
  env: Environment,
  name: string,
  values: readonly Value[],
  standard: Value,
): Value {
  const text = textOf(env, name);
  if (text === undefined) return standard;
  const value = values.find((candidate) => candidate === text);
  if (value === undefined) throw new StartupError(`${name}=${text} must be one of ${values.join(', ')}`);
  return value;
}

/** A port to listen on. */
export function portOf(env: Environment, name: string, standard: number): number {
  const text = textOf(env, name);
  if (text === undefined) return standard;
  const port = Number(text);
  if (!/^\d{1,5}$/.test(text) || port < 1 || port > 65_535)
    throw new StartupError(`${name}=${text} must be a port from 1 to 65535`);
  return port;
}

/** A whole number that a 32-bit column holds. */
export function countOf(env: Environment, name: string, standard: number): number {
  const text = textOf(env, name);
  if (text === undefined) return standard;
  if (!/^\d{1,9}$/.test(text))
    throw new StartupError(`${name}=${text} must be a whole number up to 999999999`);
  return Number(text);
}

/** An amount of dollars, in the atoms of USDC. */
export function usdcOf(env: Environment, name: string, standard: bigint): bigint {
  const text = textOf(env, name);
  if (text === undefined) return standard;
  try {
    return parseUsdcPrice(text, name);
  } catch {
    throw new StartupError(`${name}=${text} must be an amount of dollars, such as $100`);
  }
}

/** The origin of a plane as callers reach it; production demands one, in https. */
export function originOf(
  env: Environment,
  name: string,
  mode: 'development' | 'production',
): string | undefined {
  const text = textOf(env, name);
  if (text === undefined) {
    if (mode === 'production')
      throw new StartupError(`production mode needs ${name}: the https URL that callers use`);
    return undefined;
  }
  const url = URL.parse(text);
  const scheme = mode === 'production' ? ['https:'] : ['https:', 'http:'];
  if (
    !url ||
    !scheme.includes(url.protocol) ||
    url.pathname !== '/' ||
    url.search !== '' ||
    url.hash !== ''
  ) {
    throw new StartupError(
      `${name}=${text} must be an ${mode === 'production' ? 'https' : 'http(s)'} URL without a path`,
    );
  }
  return url.origin;
}

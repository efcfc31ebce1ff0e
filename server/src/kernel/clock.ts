/** Where the time comes from. Rules take a `Date`; only the rim asks a clock. */
export interface Clock {
  now(): Date;
}

/** The machine's own. The program goes by the database's (`db/database-clock.ts`), once there is one. */
export const systemClock: Clock = { now: () => new Date() };

/** A time so many seconds later. */
export function addSeconds(time: Date, seconds: number): Date {
  return new Date(time.getTime() + seconds * 1000);
}

/** Whole seconds since 1970, as JWT and EIP-3009 count them. */
export function unixSeconds(time: Date): number {
  return Math.floor(time.getTime() / 1000);
}

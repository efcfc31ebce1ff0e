/*
 * Loaded before a process (`--import`), it puts that process's clock ahead by CLOCK_AHEAD_SECONDS, or behind: as on a machine whose time
 * nobody keeps.
 */
const aheadMs = Number(process.env['CLOCK_AHEAD_SECONDS'] ?? 0) * 1000;
const trueNow = Date.now.bind(Date);
const TrueDate = Date;

class SkewedDate extends TrueDate {
  constructor(...given: unknown[]) {
    super(...((given.length === 0 ? [trueNow() + aheadMs] : given) as [number]));
  }
  static override now(): number {
    return trueNow() + aheadMs;
  }
}
globalThis.Date = SkewedDate as DateConstructor;

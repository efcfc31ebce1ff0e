import { sweepIdempotencyKeys, sweepOutbox, sweepSharedCounts } from './db/index.ts';
import { newsTopics, sweepIdleAgents, sweepOAuth, sweepUsage, tendSigningKeys } from './identity/index.ts';
import { type Loop, startLoop } from './kernel/loop.ts';
import { type Services, systemContext } from './services.ts';
import { closeExpired, followSettlements, refundUndelivered, tendRefunds } from './wallet/index.ts';
import { type Chain, findLowRelayers, resumeCredits } from './x402/index.ts';

/** How soon each kind of work is looked for, beyond the notifications that call for some of it at once. */
const intervals = {
  captureMs: 1_000,
  captureRestMs: 100,
  flushMs: 5_000,
  forgetMs: 30_000,
  resumeMs: 2_000,
  expireMs: 2_000,
  refundMs: 30_000,
  relayersMs: 60_000,
  sweepMs: 600_000,
  reloadKeysMs: 4_000,
  tendKeysMs: 60_000,
} as const;

/** The loops that have begun; those in `capture` are woken by the outbox. */
export interface WorkerLoops {
  capture: Loop[];
  other: Loop[];
}

/** In every process, whatever its role: it counts what it was asked for. */
export function startCountLoop({ usage, logger }: Services): Loop {
  return startLoop({
    intervalMs: intervals.flushMs,
    run: () => usage.flush(),
    onError: (error) => logger.warn({ err: error }, 'usage counts are written later'),
  });
}

/** In every process, whatever its role: a key that was dropped verifies nothing after 5 seconds, even if nobody could be told. */
export function startKeysLoop({ keys, logger }: Services): Loop {
  return startLoop({
    intervalMs: intervals.reloadKeysMs,
    run: () => keys.reload(),
    onError: (error) => logger.warn({ err: error }, 'the signing keys could not be read again'),
  });
}

/** Begins what the worker role does. */
export function startWorkerLoops(services: Services, loops: WorkerLoops): void {
  const context = systemContext(services);
  const onError = (error: unknown) =>
    services.logger.error({ err: error }, 'background work failed; it will be tried again');
  loops.capture.push(
    startLoop({
      intervalMs: intervals.captureMs,
      restMs: intervals.captureRestMs,
      run: () => followSettlements(context),
      onError,
    }),
  );
  loops.other.push(
    startLoop({ intervalMs: intervals.forgetMs, run: () => sweepIdempotencyKeys(context), onError }),
    startLoop({ intervalMs: intervals.forgetMs, run: () => sweepSharedCounts(context), onError }),
    startLoop({ intervalMs: intervals.resumeMs, run: () => resumeCredits(context, onError), onError }),
    startLoop({ intervalMs: intervals.sweepMs, run: () => sweepIdleAgents(context), onError }),
    startLoop({ intervalMs: intervals.sweepMs, run: () => sweepUsage(context), onError }),
    startLoop({ intervalMs: intervals.sweepMs, run: () => sweepOutbox(context, newsTopics), onError }),
    startLoop({ intervalMs: intervals.forgetMs, run: () => sweepOAuth(context), onError }),
    startLoop({ intervalMs: intervals.tendKeysMs, run: () => tendSigningKeys(context), onError }),
    startLoop({ intervalMs: intervals.refundMs, run: () => refundUndelivered(context), onError }),
  );
  const warnOfLow = async (chain: Chain) => {
    for (const relayer of await findLowRelayers(services.db, chain))
      services.logger.warn(relayer, 'a relayer is running out of gas: send it some, or add another');
  };
  for (const { chain, settler } of services.chains.values()) {
    loops.other.push(
      startLoop({ intervalMs: intervals.resumeMs, run: () => settler.resume(), onError }),
      startLoop({ intervalMs: intervals.refundMs, run: () => tendRefunds(context, chain), onError }),
      startLoop({ intervalMs: intervals.relayersMs, run: () => warnOfLow(chain), onError }),
      startLoop({ intervalMs: intervals.expireMs, run: () => closeExpired(context, chain), onError }),
    );
  }
}

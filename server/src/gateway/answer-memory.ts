import type { ServerResponse } from 'node:http';
import { AppError } from '../kernel/errors.ts';
import { limits } from '../kernel/limits.ts';

/** What one paid call has of the memory for answers. */
export interface HeldAnswer {
  bytes: number;
}

/**
 * The bytes of paid answers that this process holds for all of its calls, each from when its upstream sends it until its client has it.
 * Without a bound, a few hundred calls of some MiB that wait for their settlement would end the process, and with it all others.
 */
export interface AnswerMemory {
  /** Throws `gateway_busy` where there is no room for one more answer of the largest size that is kept. */
  demandRoom(): void;
  /** Takes so many bytes more; false, and takes nothing, where they have no room. */
  take(held: HeldAnswer, bytes: number): boolean;
  /** Gives back all that a call has. */
  free(held: HeldAnswer): void;
}

/** @param bytesMax what is held at most. */
export function createAnswerMemory(bytesMax: number): AnswerMemory {
  let taken = 0;
  return {
    demandRoom() {
      if (taken + limits.storedResponseBytes > bytesMax) throw gatewayBusy();
    },
    take(held, bytes) {
      if (taken + bytes > bytesMax) return false;
      taken += bytes;
      held.bytes += bytes;
      return true;
    },
    free(held) {
      taken -= held.bytes;
      held.bytes = 0;
    },
  };
}

export function gatewayBusy(): AppError {
  return new AppError(
    'gateway_busy',
    'This gateway holds as many paid answers as it has memory for: nothing was charged or run for this request; send it again with the same payment',
    { retryAfterSeconds: limits.busyRetrySeconds },
  );
}

/**
 * Gives back what an answer has once its client has read it, or is gone. One that doesn't read is cut: it may fetch the answer again.
 */
export function freeOnceSent(memory: AnswerMemory, held: HeldAnswer, response: ServerResponse): void {
  if (held.bytes === 0) return;
  if (response.destroyed || response.writableFinished || response.socket?.writableLength === 0)
    return memory.free(held);
  response.setTimeout(limits.unreadAnswerSeconds * 1000);
  response.once('close', () => memory.free(held));
}

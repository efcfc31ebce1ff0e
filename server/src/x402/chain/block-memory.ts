import type { Address, Hex } from 'viem';

/** What a block says of a payer. */
export interface Account {
  /** In which this was so, where that was told. */
  block: bigint | undefined;
  balance: bigint;
  /** A contract's, or one that its key has put there (EIP-7702): then the token asks the code, and not the signature. */
  hasCode: boolean;
  /** When the chain was asked for it, by `performance.now()`: what happened since isn't in it. */
  askedAtMs: number;
}

/** What was read of the latest block that was seen, for as long as no other is. */
export interface BlockMemory {
  account(payer: Address): Account | undefined;
  /** Whether the nonce is used. */
  nonce(payer: Address, nonce: Hex): boolean | undefined;
  /**
   * An answer of this block has come, to what was asked then. `head`: what it says may be kept; `past`: a newer block has come meanwhile;
   * `behind`: the node that gave it hadn't got a block that was seen before it was asked.
   */
  see(block: bigint, askedAtMs: number): 'behind' | 'head' | 'past';
  keepAccount(payer: Address, account: Account): void;
  keepNonce(payer: Address, nonce: Hex, isUsed: boolean): void;
}

/** Half of Base's two seconds: what nobody has asked the chain for so long may be another block's. */
const headMsMax = 1_000;
/** Some megabytes, and more than is asked within a block. */
const keptMax = 20_000;

/**
 * Remembers what one block says. Which block is the latest is told by every answer that names its block, and by whoever
 * watches for receipts (`latest`): nobody is asked for it. What nobody has told for a second isn't known.
 */
export function createBlockMemory(
  latest: () => { header: { number: bigint; hash: string }; atMs: number } | undefined,
): BlockMemory {
  let head: { block: bigint; hash: string | undefined; sinceMs: number; seenAtMs: number } | undefined;
  const accounts = new Map<Address, Account>();
  const nonces = new Map<string, boolean>();

  function forget(): void {
    accounts.clear();
    nonces.clear();
  }

  /** A block that isn't told by its hash is the one of its number that was seen. */
  function move(block: bigint, atMs: number, hash?: string): void {
    if (head?.block === block && (!hash || !head.hash || head.hash === hash)) {
      head.hash ??= hash;
      head.seenAtMs = Math.max(head.seenAtMs, atMs);
      return;
    }
    head = { block, hash, sinceMs: atMs, seenAtMs: atMs };
    forget();
  }

  /** The head as far as it is known now. */
  function known(): typeof head {
    const seen = latest();
    if (seen && (!head || seen.header.number >= head.block))
      move(seen.header.number, seen.atMs, seen.header.hash);
    return head && performance.now() - head.seenAtMs <= headMsMax ? head : undefined;
  }

  return {
    account: (payer) => (known() ? accounts.get(payer) : undefined),
    nonce: (payer, nonce) => (known() ? nonces.get(payer + nonce) : undefined),
    see(block, askedAtMs) {
      const now = known();
      // A chain that has forgotten its last blocks is believed once nobody has seen them for a while.
      if (now && block < now.block) return askedAtMs >= now.sinceMs ? 'behind' : 'past';
      move(block, performance.now());
      if (accounts.size + nonces.size > keptMax) forget();
      return 'head';
    },
    keepAccount: (payer, account) => void accounts.set(payer, account),
    keepNonce: (payer, nonce, isUsed) => void nonces.set(payer + nonce, isUsed),
  };
}

import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import * as fc from 'fast-check';
import { type Hex, recoverAddress as recoverByViem } from 'viem';
import { sign as signDigest } from 'viem/accounts';
import { describe, expect, it } from 'vitest';
import { halfOrder, highTwin, order, withPart, withV } from '../payments/payments.fixture.ts';
import { recoverAddress, signatureBackend } from './secp256k1.ts';
import { loadNativeBackend, loadSignatureBackend, loadWasmBackend } from './signature-backend.ts';

const prebuilds = join(dirname(createRequire(import.meta.url).resolve('secp256k1')), 'prebuilds');
const hasPrebuild = existsSync(join(prebuilds, `${process.platform}-${process.arch}`));
const backends = [...(hasPrebuild ? [loadNativeBackend()] : []), await loadWasmBackend()];

const digest = Buffer.from('c0ffee'.padEnd(64, '1'), 'hex');
const signature = await signDigest({
  hash: `0x${digest.toString('hex')}`,
  privateKey: `0x${'7'.repeat(64)}`,
  to: 'hex',
});

describe.each(backends)('recovery by the $name build', (backend) => {
  const recover = (hash: Buffer, signed: Hex) => {
    const address = recoverAddress(hash, Buffer.from(signed.slice(2), 'hex'), backend);
    return address && `0x${address.toString('hex')}`;
  };

  it("finds viem's address for any digest and key", async () => {
    const secrets = fc.bigInt({ min: 1n, max: order - 1n }).map((key) => key.toString(16).padStart(64, '0'));
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ minLength: 32, maxLength: 32 }), secrets, async (bytes, key) => {
        const hash = `0x${Buffer.from(bytes).toString('hex')}` as const;
        const signed = await signDigest({ hash, privateKey: `0x${key}`, to: 'hex' });
        const expected = await recoverByViem({ hash, signature: signed });
        expect(recover(Buffer.from(bytes), signed)).toBe(expected.toLowerCase());
      }),
      { numRuns: 40 },
    );
  });

  it("finds viem's address, or none where viem has none, for r and s that no key need have made", async () => {
    const scalar = fc.oneof(
      fc.bigInt({ min: 1n, max: halfOrder }),
      fc.constantFrom(0n, 1n, 2n, halfOrder - 1n, halfOrder),
    );
    const anyV = fc.constantFrom(27, 28);
    await fc.assert(
      fc.asyncProperty(scalar, scalar, anyV, async (r, s, v) => {
        const signed = withV(withPart(withPart(signature, 'r', r), 's', s), v);
        const hash = `0x${digest.toString('hex')}` as const;
        const expected = await recoverByViem({ hash, signature: signed }).catch(() => undefined);
        expect(recover(digest, signed)).toBe(expected?.toLowerCase());
      }),
      { numRuns: 60 },
    );
  });

  it('takes the largest s of the lower half, and none above (EIP-2)', () => {
    expect(recover(digest, withPart(signature, 's', halfOrder))).toMatch(/^0x[0-9a-f]{40}$/);
    expect(recover(digest, withPart(signature, 's', halfOrder + 1n))).toBeUndefined();
    expect(recover(digest, highTwin(signature))).toBeUndefined();
  });

  it.each([
    ['r', 0n],
    ['r', order],
    ['r', order + 1n],
    ['r', 2n ** 256n - 1n],
    ['s', 0n],
    ['s', order],
    ['s', 2n ** 256n - 1n],
  ] as const)('refuses %s = %d', (part, value) => {
    expect(recover(digest, withPart(signature, part, value))).toBeUndefined();
  });

  it('refuses an r that is the x of no point', () => {
    // 5 is no x-coordinate of secp256k1.
    expect(recover(digest, withPart(signature, 'r', 5n))).toBeUndefined();
  });

  it('takes v of 27 and 28, and no other', () => {
    const taken = Array.from({ length: 256 }, (_, v) => v).filter((v) =>
      recover(digest, withV(signature, v)),
    );
    expect(taken).toEqual([27, 28]);
  });

  it('gives each caller an address of its own', () => {
    const bytes = Buffer.from(signature.slice(2), 'hex');
    const first = recoverAddress(digest, bytes, backend);
    const before = first?.toString('hex');
    recoverAddress(randomBytes(32), bytes, backend);
    expect(first?.toString('hex')).toBe(before);
  });
});

describe('the choice of a build', () => {
  it.runIf(hasPrebuild)('is native where the package has one for this platform', () => {
    expect(signatureBackend).toBe('native');
  });

  it('is wasm where the native one does not load', async () => {
    const backend = await loadSignatureBackend(() => {
      throw new Error('No native build was found');
    });
    expect(backend.name).toBe('wasm');
  });
});

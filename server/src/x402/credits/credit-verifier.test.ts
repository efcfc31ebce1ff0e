import { generateKeyPairSync, sign } from 'node:crypto';
import { expect, it } from 'vitest';
import { newId } from '../../kernel/ids.ts';
import type { CreditAlgorithm, CreditKey, CreditPayment } from './credit-payment.ts';
import { createCreditVerifier } from './credit-verifier.ts';

function openKey(algorithm: CreditAlgorithm) {
  const { publicKey, privateKey } =
    algorithm === 'ES256'
      ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
      : generateKeyPairSync('ed25519');
  const key: CreditKey = {
    environmentId: newId('environment'),
    kid: 'kid',
    algorithm,
    publicKey,
    currency: 'USDC',
  };
  const write = (input: string, header: Partial<CreditPayment['header']> = {}): CreditPayment => {
    const signature = sign(
      algorithm === 'ES256' ? 'sha256' : null,
      Buffer.from(input),
      algorithm === 'ES256' ? { key: privateKey, dsaEncoding: 'ieee-p1363' } : privateKey,
    );
    return {
      jws: `${input}.${signature.toString('base64url')}`,
      header: { alg: algorithm, typ: 'credence-credit+jwt', kid: 'kid', critical: false, ...header },
    } as CreditPayment;
  };
  return { key, write };
}

it.each(['ES256', 'EdDSA'] as const)(
  'takes what a key of %s has signed, and nothing else',
  async (algorithm) => {
    const verify = createCreditVerifier();
    const [ours, other] = [openKey(algorithm), openKey(algorithm)];
    const good = ours.write('head.body');
    const [input] = good.jws.split(/\.(?=[^.]*$)/);
    const signature = good.jws.slice(good.jws.lastIndexOf('.') + 1);
    const answers = await Promise.all([
      verify(good, ours.key),
      verify(good, other.key),
      verify({ ...good, jws: `${input}x.${signature}` }, ours.key),
      verify({ ...good, jws: `${input}.${signature.slice(0, -4)}` }, ours.key),
      verify({ ...good, jws: `${input}.` }, ours.key),
      verify(ours.write('head.body', { alg: algorithm === 'ES256' ? 'EdDSA' : 'ES256' }), ours.key),
      verify(ours.write('head.body', { typ: 'JWT' }), ours.key),
      verify(ours.write('head.body', { critical: true }), ours.key),
    ]);
    expect(answers).toEqual([true, ...Array.from({ length: 7 }, () => false)]);
  },
);

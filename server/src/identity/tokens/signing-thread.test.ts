import { type KeyObject, verify } from 'node:crypto';
import { expect, it } from 'vitest';
import { generateSigningKey, openPublicJwk } from '../signing-keys/signing-key.ts';
import { createSigningThread } from './signing-thread.ts';

const ecdsa = await generateSigningKey('ES256');
const edwards = await generateSigningKey('EdDSA');

function isSigned(text: string, signature: string, publicKey: KeyObject): boolean {
  const key = { key: publicKey, dsaEncoding: 'ieee-p1363' } as const;
  const algorithm = publicKey.asymmetricKeyType === 'ec' ? 'sha256' : null;
  return verify(algorithm, Buffer.from(text), key, Buffer.from(signature, 'base64url'));
}

it('signs what is asked for together, each text with its own key', async () => {
  const thread = createSigningThread();
  const texts = Array.from({ length: 20 }, (_, index) => `text ${index}`);
  const signed = await Promise.all(
    texts.map((signingInput, index) =>
      index % 2 === 0
        ? thread.sign({ signingInput, key: { algorithm: 'ES256', privateKey: ecdsa.privateKey } })
        : thread.sign({ signingInput, key: { algorithm: 'EdDSA', privateKey: edwards.privateKey } }),
    ),
  );
  const keys = [ecdsa, edwards].map(({ jwk }) => openPublicJwk(jwk).publicKey);
  const good = texts.map((text, index) => keys.map((key) => isSigned(text, signed[index] ?? '', key)));
  expect(good).toEqual(texts.map((_, index) => [index % 2 === 0, index % 2 === 1]));
});

it('that has failed is followed by another', async () => {
  const thread = createSigningThread();
  const job = { signingInput: 'text', key: { algorithm: 'ES256', privateKey: edwards.privateKey } } as const;
  await expect(thread.sign(job)).rejects.toThrow('digest');
  const signature = await thread.sign({ ...job, key: { algorithm: 'ES256', privateKey: ecdsa.privateKey } });
  expect(isSigned('text', signature, openPublicJwk(ecdsa.jwk).publicKey)).toBe(true);
});

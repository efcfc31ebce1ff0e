import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { createAgentLogin } from './agent-login.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const login = createAgentLogin({ issuer: 'https://id.example', audience: 'https://shop.example' });
const codeOf = (challenge: string) =>
  login.verify({ challenge, vc: 'none' }).catch(({ code }: { code: string }) => code);

it('a challenge is taken once, whatever comes of it, and not after five minutes', async () => {
  const [one, two, three] = [login.challenge(), login.challenge(), login.challenge()];
  expect(new Set([one, two, three].map(({ challenge }) => challenge)).size).toBe(3);
  expect(one.audience).toBe('https://shop.example');
  expect(await codeOf(one.challenge)).toBe('malformed');
  expect(await codeOf(one.challenge)).toBe('unknown_challenge');
  vi.advanceTimersByTime(299_999);
  expect(await codeOf(two.challenge)).toBe('malformed');
  vi.advanceTimersByTime(1);
  expect(await codeOf(three.challenge)).toBe('unknown_challenge');
  await expect(login.verify(undefined)).rejects.toMatchObject({ code: 'unknown_challenge' });
});

it('who asks for very many challenges takes no more memory than for ten thousand', async () => {
  const first = login.challenge();
  const second = login.challenge();
  for (let index = 0; index < 9_999; index += 1) login.challenge();
  expect(await codeOf(first.challenge)).toBe('unknown_challenge');
  expect(await codeOf(second.challenge)).toBe('malformed');
});

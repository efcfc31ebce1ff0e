import { expect, it } from 'vitest';
import { rewritePrefix } from './server.ts';

// /api/v1 and /api are the same API as /v1; what stands at the root answers under all three.
it.each([
  ['/api/v1/agents', '/v1/agents'],
  ['/api/agents', '/v1/agents'],
  ['/v1/agents', '/v1/agents'],
  ['/api/v1/agents?x=/api/v1', '/v1/agents?x=/api/v1'],
  ['/api/agents/api/v1', '/v1/agents/api/v1'],
  ['/api/v1', '/v1'],
  ['/api/v1/', '/v1/'],
  ['/api', '/v1'],
  ['/api/', '/v1/'],
  ['/api?x=1', '/v1?x=1'],
  ['/api/v1?x=1', '/v1?x=1'],
  ['/api/v1beta/agents', '/v1/v1beta/agents'],
  ['/api/v1/v1/agents', '/v1/v1/agents'],
  ['/apis/agents', '/apis/agents'],
  ['/api-keys', '/api-keys'],
  ['/register', '/register'],
  ['/v1/register', '/register'],
  ['/api/v1/register?x=1', '/register?x=1'],
  ['/api/register', '/register'],
  ['/api/register/more', '/v1/register/more'],
  ['/v1/v1/register', '/v1/v1/register'],
  ['/', '/'],
  ['', ''],
])('%j is %j', (url, rewritten) => {
  expect(rewritePrefix(url, new Set(['/register']))).toBe(rewritten);
});

import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type AgentId, newAgentId } from '../kernel/ids.ts';
import { identify } from './identify.ts';

const agentId = newAgentId();
const token = 'eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl';
const findAgent = async (text: string): Promise<AgentId | undefined> =>
  text === token ? agentId : undefined;
const isOurCredential = (text: string): boolean => text.startsWith('cs_') || text.startsWith('awx_');
const code = (expected: string) => expect.objectContaining({ code: expected });

describe('X-Agent-ID', () => {
  it.each([agentId, 'agent-7', 'a', 'my.agent', 'user@example.com', 'x'.repeat(200)])(
    'takes a plain id, %s, at its word and no further',
    async (id) => {
      expect(await identify(id, findAgent, isOurCredential)).toEqual({ agentId: id, verified: false });
      expect(await identify(` ${id} `, findAgent, isOurCredential)).toEqual({ agentId: id, verified: false });
    },
  );

  it('takes a good token for the agent that it names, and keeps no token', async () => {
    expect(await identify(token, findAgent, isOurCredential)).toEqual({ agentId, verified: true });
  });

  it.each([undefined, '', '   ', ['a', 'b']])('%j is a missing one', async (header) => {
    await expect(identify(header, findAgent, isOurCredential)).rejects.toThrow(code('missing_agent_id'));
  });

  it.each(
    [
      `${token}x`,
      'a.b.c',
      'a.b.',
      'eyJhbGciOiJub25lIn0.e30.',
      'eyJ',
      'eyJ with spaces',
      'eyJa.b',
      'eyJ.a.b.c.d',
    ].map((text) => [text]),
  )('%s has the shape of a token, and is never taken for a plain id', async (header) => {
    await expect(identify(header, findAgent, isOurCredential)).rejects.toThrow(
      code('agent_authentication_failed'),
    );
  });

  it.each(['cs_secret', 'awx_test_key'])(
    '%s is a secret of ours, and is refused before it is kept',
    async (header) => {
      await expect(identify(header, findAgent, isOurCredential)).rejects.toThrow(
        code('agent_authentication_failed'),
      );
    },
  );

  it.each(['a b', 'a\tb', 'é', 'a\u0000', 'x'.repeat(201), 'a\u202eb'])('%j is refused', async (header) => {
    await expect(identify(header, findAgent, isOurCredential)).rejects.toThrow(code('invalid_request'));
  });

  it('says no to anything else without another kind of error', async () => {
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: 'binary' }), async (header) => {
        const answer = await identify(header, findAgent, isOurCredential).catch((error: unknown) => error);
        if (answer instanceof Error)
          expect(['missing_agent_id', 'invalid_request', 'agent_authentication_failed']).toContain(
            'code' in answer ? answer.code : answer,
          );
        else expect(answer).toEqual({ agentId: header.trim(), verified: false });
      }),
    );
  });
});

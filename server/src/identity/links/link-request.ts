import { randomInt } from 'node:crypto';
import type { AgentId, LinkId } from '../../kernel/ids.ts';

/** An agent's request that a person link it. */
export interface LinkRequest {
  id: LinkId;
  agentId: AgentId;
  wrongCodes: number;
  /** Where the agent asked from. */
  clientAddress: string | null;
  createdAt: Date;
  expiresAt: Date;
}

/** No vowels, so that no words come out, and nothing that looks like something else (RFC 8628 section 6.1). */
const letters = 'BCDFGHJKLMNPQRSTVWXZ';

/** What the agent shows to its person, and the person types: `WDJB-MJHT`. */
export function newUserCode(): string {
  const code = Array.from({ length: 8 }, () => letters[randomInt(letters.length)]).join('');
  return `${code.slice(0, 4)}-${code.slice(4)}`;
}

/** Whether two spellings are of one code: case and punctuation don't matter (RFC 8628 section 6.1). */
export function isSameCode(left: string, right: string): boolean {
  return bare(left) === bare(right);
}

function bare(code: string): string {
  return code.toUpperCase().replaceAll(/[^A-Z]/g, '');
}

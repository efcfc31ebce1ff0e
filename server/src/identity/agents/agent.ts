import { addSeconds, unixSeconds } from '../../kernel/clock.ts';
import { type AgentId, type ClientId, type EnvironmentId, newAgentId, newId } from '../../kernel/ids.ts';
import type { JsonObject } from '../../kernel/json.ts';

/** `inactive`: deactivated by its owner or by itself. `suspended`: stopped for everybody, which only those lift who may start it. */
export type AgentStatus = 'active' | 'inactive' | 'suspended';

/** A software identity, of the whole instance; also an OAuth client. */
export interface Agent {
  id: AgentId;
  clientId: ClientId;
  name: string;
  type: string | null;
  description: string;
  clientInfo: string;
  email: string | null;
  /** Words for the APIs that it calls. They open no management route. */
  scopes: string[];
  tags: string[];
  metadata: JsonObject;
  /** The environment that owns it; nothing where it registered itself. */
  homeEnvironmentId: EnvironmentId | null;
  status: AgentStatus;
  /** Since when it is stopped for everybody: by its home or, where it has none, by each environment that is linked to it. */
  suspendedAt: Date | null;
  deactivatedAt: Date | null;
  expiresAt: Date | null;
  /** Access tokens and refresh families that began before this are dead. */
  tokensValidFrom: Date | null;
  /** The owner's switch: whether the agent may rotate its own secret. */
  selfRotation: boolean;
  /** Whether `/oauth/refresh` takes a bare refresh token of it, without client authentication. */
  refreshWithoutClientAuth: boolean;
  /** The owner's switch: whether every token of it must be bound to one of its registered keys (RFC 9449). */
  senderBound: boolean;
  createdAt: Date;
  updatedAt: Date;
}

/** An agent as an environment that is linked to it has it. */
export interface LinkedAgent extends Agent {
  /** When that environment stopped it: then the agent gets nothing of it, and only that environment lifts that. */
  stoppedAt: Date | null;
}

/** An agent as it begins, with what it is given and nothing else. */
export function newAgent(
  given: Partial<Agent> & Pick<Agent, 'homeEnvironmentId' | 'name'>,
  now: Date,
): Agent {
  return {
    id: newAgentId(),
    clientId: newId('client'),
    type: null,
    description: '',
    clientInfo: '',
    email: null,
    scopes: [],
    tags: [],
    metadata: {},
    status: 'active',
    suspendedAt: null,
    deactivatedAt: null,
    expiresAt: null,
    tokensValidFrom: null,
    selfRotation: true,
    refreshWithoutClientAuth: true,
    senderBound: false,
    createdAt: now,
    updatedAt: now,
    ...given,
  };
}

/** What decides whether an agent may do anything at all. */
export type AgentState = Pick<Agent, 'expiresAt' | 'status' | 'tokensValidFrom'>;

/** Whether it may authenticate, be given tokens and use them. */
export function isLive(agent: Pick<Agent, 'expiresAt' | 'status'>, now: Date): boolean {
  return agent.status === 'active' && (agent.expiresAt === null || now < agent.expiresAt);
}

/**
 * Whether an access token issued at `iat` (unix seconds) is one of a live agent's, and of after its last stop. `iat` has no parts
 * of a second, so that a token of the very second of the stop counts as older.
 */
export function acceptsTokenOf(agent: AgentState, iat: number, now: Date): boolean {
  return isLive(agent, now) && (agent.tokensValidFrom === null || iat > unixSeconds(agent.tokensValidFrom));
}

/** Whether a refresh family begun then is of before the agent's last stop or deactivation: it's dead for good. */
export function isFamilyBeforeEpoch(agent: Pick<Agent, 'tokensValidFrom'>, begunAt: Date): boolean {
  return agent.tokensValidFrom !== null && begunAt <= agent.tokensValidFrom;
}

/** The `iat` for a token of now: never one that `acceptsTokenOf` takes for older than the last stop, a second off at most. */
export function tokenTime(agent: Pick<Agent, 'tokensValidFrom'>, now: Date): Date {
  const { tokensValidFrom } = agent;
  if (tokensValidFrom === null || unixSeconds(now) > unixSeconds(tokensValidFrom)) return now;
  return addSeconds(tokensValidFrom, 1);
}

/**
 * When a refresh family of now begins: after the agent's last stop and its last change, a rotation above all, which another process may
 * have dated some milliseconds later.
 */
export function familyTime(agent: Pick<Agent, 'tokensValidFrom' | 'updatedAt'>, now: Date): Date {
  const time = tokenTime(agent, now);
  return time > agent.updatedAt ? time : new Date(agent.updatedAt.getTime() + 1);
}

/** How long a token of now may live: so many seconds, or until the agent ends; 0 where that is within the second. */
export function tokenLifeSeconds(agent: Pick<Agent, 'expiresAt'>, now: Date, secondsMax: number): number {
  if (agent.expiresAt === null) return secondsMax;
  return Math.min(secondsMax, Math.max(0, Math.floor((agent.expiresAt.getTime() - now.getTime()) / 1000)));
}

/** Who owns an agent manages it: its credentials, its name, its end. An environment it is linked to may only see and stop it. */
export function isOwnedBy(agent: Pick<Agent, 'homeEnvironmentId'>, environmentId: EnvironmentId): boolean {
  return agent.homeEnvironmentId === environmentId;
}

/** The agent's status for the environment: what it has stopped is stopped there, though it runs for others. */
export function statusFor(agent: Pick<LinkedAgent, 'status' | 'stoppedAt'>): AgentStatus {
  return agent.stoppedAt === null ? agent.status : 'suspended';
}

/** What deactivates or starts an agent changes of it. */
export type StateChange = Pick<Agent, 'deactivatedAt' | 'status' | 'suspendedAt'>;

/** After a deactivation by the owner, or by itself. */
export function deactivated(agent: StateChange, now: Date): StateChange {
  return withStatus({ ...agent, deactivatedAt: agent.deactivatedAt ?? now });
}

/**
 * After the environment has started it again: running for everybody else too where the environment is its home, or where it has none.
 * Another environment lifts nothing here but its own stop, which its link has; and nobody that of another.
 */
export function started(
  agent: StateChange & Pick<Agent, 'homeEnvironmentId'>,
  environmentId: EnvironmentId,
): StateChange {
  const mayLift = agent.homeEnvironmentId === null || isOwnedBy(agent, environmentId);
  const { suspendedAt, deactivatedAt } = agent;
  return withStatus(mayLift ? { suspendedAt: null, deactivatedAt: null } : { suspendedAt, deactivatedAt });
}

function withStatus({ suspendedAt, deactivatedAt }: Omit<StateChange, 'status'>): StateChange {
  const standing = deactivatedAt === null ? 'active' : 'inactive';
  return { suspendedAt, deactivatedAt, status: suspendedAt === null ? standing : 'suspended' };
}

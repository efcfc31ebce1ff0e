export { findAgent, findLinkedEnvironments, linkAgent } from './agents/agents.sql.ts';
export { authenticateAgent, type AuthenticatedAgent } from './agents/authenticate-agent.ts';
export { sweepIdleAgents } from './agents/delete-idle-agents.ts';
export { createAgentUsage, type AgentUsage } from './agents/usage.ts';
export { isClientSecretShaped } from './credentials/client-secret.ts';
export { createGuessGuard, type GuessGuard } from './credentials/guess-guard.ts';
export { identityRoutes } from './routes.ts';
export { loadSigningKeys, type SigningKeys } from './signing-keys.ts';
export { createTokens, type Tokens } from './tokens.ts';

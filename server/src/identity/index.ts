export { findAgent, findLinkedEnvironments, linkAgent } from './agents.sql.ts';
export { identityRoutes } from './routes.ts';
export { loadSigningKeys, type SigningKeys } from './signing-keys/signing-keys.ts';
export { replaceSigningKeys } from './signing-keys/replace-signing-key.ts';
export { rotateSigningKeys } from './signing-keys/rotate-signing-key.ts';
export { tendSigningKeys } from './signing-keys/tend-signing-keys.ts';
export { signingKeysChannel } from './signing-keys/signing-keys.sql.ts';
export { createTokens, type Tokens } from './tokens/tokens.ts';

export { createAnswerMemory } from './answer-memory.ts';
export { createForwarder } from './forward.ts';
export { createClientAddress } from './client-address.ts';
export { createGateway } from './gateway.ts';
export { createPublishedServers } from './published-servers.ts';

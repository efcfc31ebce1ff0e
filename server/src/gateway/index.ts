export { createForwarder } from './forward.ts';
export { createGateway, type Gateway } from './gateway.ts';
export { createPublishedServers, type PublishedServers } from './published-servers.ts';

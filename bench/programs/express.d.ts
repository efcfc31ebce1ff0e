// The part of express that a peer uses; its types are a package of their own, and not worth one more.
declare module 'express' {
  import type { IncomingMessage, Server, ServerResponse } from 'node:http';

  interface Request extends IncomingMessage {
    path: string;
  }
  interface Response extends ServerResponse {
    type(name: string): Response;
    send(body: string): Response;
  }
  interface Application {
    use(middleware: unknown): void;
    get(path: string, handler: (request: Request, response: Response) => void): void;
    listen(port: number, host: string): Server;
  }
  export default function express(): Application;
}

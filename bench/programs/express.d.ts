// The part of express that a peer uses; its types are a package of their own, and not worth one more.
declare module 'express' {
  import type { Server } from 'node:http';

  interface Response {
    type(name: string): Response;
    send(body: string): Response;
  }
  interface Application {
    use(middleware: unknown): void;
    get(path: string, handler: (request: unknown, response: Response) => void): void;
    listen(port: number, host: string): Server;
  }
  export default function express(): Application;
}

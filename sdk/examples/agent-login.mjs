// A site that agents log in to: it gives a challenge, takes the credential for it once, and opens a session of its own.
import express from 'express';
import { createAgentLogin } from '../src/index.ts'; // '@credence/sdk' elsewhere

const { ISSUER = 'http://localhost:8080', AUDIENCE = 'https://shop.example', PORT = 3000 } = process.env;
const agents = createAgentLogin({ issuer: ISSUER, audience: AUDIENCE });
const [sessions, app] = [new Map(), express().use(express.json())];

app.post('/login/challenge', (_request, response) => response.json(agents.challenge()));
app.post('/login', async (request, response) => {
  const [{ sub }, session] = [await agents.verify(request.body), crypto.randomUUID()];
  sessions.set(session, sub);
  response.json({ session });
});
app.get('/me', (request, response) => {
  const agent = sessions.get(request.headers.authorization?.replace('Bearer ', ''));
  response.status(agent ? 200 : 401).json({ agent });
});
app.use((error, _request, response, next) =>
  error.status ? response.status(error.status).json({ error: error.code }) : next(error),
);
const server = app.listen(PORT, '127.0.0.1', () => console.log(server.address().port));

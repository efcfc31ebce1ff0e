// A site that agents log in to: it gives a challenge, takes the credential for it once, and opens a session of its own.
import { randomBytes } from 'node:crypto';
import express from 'express';
import { verifyAgentCredential } from '../src/index.ts'; // '@credence/sdk' elsewhere

const { ISSUER: issuer = 'http://localhost:8080', AUDIENCE: audience = 'https://shop.example' } = process.env;
const [challenges, sessions] = [new Set(), new Map()];
const random = () => randomBytes(32).toString('base64url');
const app = express().use(express.json());

app.post('/login/challenge', (_request, response) => {
  const challenge = random();
  challenges.add(challenge);
  setTimeout(() => challenges.delete(challenge), 300_000).unref();
  response.json({ challenge, audience });
});

app.post('/login', async (request, response) => {
  const { challenge, vc } = request.body ?? {};
  if (!challenges.delete(challenge)) return response.status(401).json({ error: 'unknown_challenge' });
  const agent = await verifyAgentCredential(vc, { issuer, audience, challenge }).catch(({ code }) => ({
    code,
  }));
  if (!agent.sub) return response.status(401).json({ error: agent.code });
  const session = random();
  sessions.set(session, agent.sub);
  response.json({ session });
});

app.get('/me', (request, response) => {
  const agent = sessions.get(request.headers.authorization?.replace('Bearer ', ''));
  response.status(agent ? 200 : 401).json({ agent });
});

const server = app.listen(process.env.PORT ?? 3000, '127.0.0.1', () => console.log(server.address().port));

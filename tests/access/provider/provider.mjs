// A real OpenID provider on a free port of the loopback address, for the tests of sign-in.
//
// Its first argument is JSON: clients' redirect address, the audiences that it knows, and accounts
// with the claims that their access tokens carry. It writes one line when it is ready, and obeys
// lines on its input: {"rotate": true} signs with a new key and keeps the old one published,
// {"withdraw": true} publishes the newest key only. It ends when its input does.

import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { Provider } from 'oidc-provider';

const { redirect, audiences, accounts } = JSON.parse(process.argv[2]);
const server = createServer();
let keys = [];
let answer;

function newKey() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'RS256' };
}

function restart() {
  const provider = new Provider(`http://127.0.0.1:${server.address().port}`, {
    jwks: { keys },
    clients: [
      {
        client_id: 'notebook',
        application_type: 'native',
        token_endpoint_auth_method: 'none',
        redirect_uris: [redirect],
        grant_types: ['authorization_code', 'refresh_token'],
        response_types: ['code'],
      },
    ],
    cookies: { keys: [randomUUID()] },
    pkce: { required: () => true },
    ttl: { AccessToken: 3600, IdToken: 3600, Grant: 3600, Session: 3600, Interaction: 3600 },
    findAccount: (_ctx, id) =>
      accounts[id] && { accountId: id, claims: () => ({ sub: id, ...accounts[id] }) },
    extraTokenClaims: (_ctx, token) => accounts[token.accountId],
    features: {
      devInteractions: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => audiences[0],
        useGrantedResource: () => true,
        getResourceServerInfo: (_ctx, resource) => {
          if (!audiences.includes(resource)) throw new Error('unknown resource');
          return { scope: 'ask', audience: resource, accessTokenFormat: 'jwt' };
        },
      },
    },
  });
  answer = provider.callback();
}

const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);

server.on('request', (request, response) => answer(request, response));
server.listen(0, '127.0.0.1', () => {
  keys = [newKey()];
  restart();
  say({ issuer: `http://127.0.0.1:${server.address().port}` });
});

const input = createInterface({ input: process.stdin });
input.on('line', (line) => {
  const asked = JSON.parse(line);
  if (asked.rotate) keys = [newKey(), ...keys];
  if (asked.withdraw) keys = keys.slice(0, 1);
  restart();
  say({ kids: keys.map((key) => key.kid) });
});
input.on('close', () => process.exit(0));

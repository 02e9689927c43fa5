// Creates a container in azurite: node azure-container.mjs ENDPOINT CONTAINER, where the endpoint ends with the account.
import { createHmac } from 'node:crypto';

const account = 'devstoreaccount1';
// The same everywhere, and no secret.
const key =
  'Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==';

const [endpoint, container] = process.argv.slice(2);
const date = new Date().toUTCString();
const version = '2021-08-06';
const toSign = [
  'PUT',
  ...Array(11).fill(''),
  `x-ms-date:${date}`,
  `x-ms-version:${version}`,
  `/${account}/${account}/${container}`,
  'restype:container',
].join('\n');
const signature = createHmac('sha256', Buffer.from(key, 'base64')).update(toSign).digest('base64');
const answer = await fetch(`${endpoint}/${container}?restype=container`, {
  method: 'PUT',
  headers: {
    'x-ms-date': date,
    'x-ms-version': version,
    authorization: `SharedKey ${account}:${signature}`,
  },
});
// 409: it is there already.
if (answer.status !== 201 && answer.status !== 409) {
  console.error(`${answer.status}: ${await answer.text()}`);
  process.exit(1);
}

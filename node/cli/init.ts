/**
 * `atmos init`: a first configuration and the keys that go with it.
 *
 * Nothing that is there is ever overwritten: neither a configuration nor a key.
 */
import { writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { checkConfig } from '../config.ts';
import { openKeys } from '../state.ts';

export type InitOptions = { file: string; name: string; domain: string; url: string; email?: string };

/** @throws ConfigError when an option makes an invalid file; Error when the file exists */
export async function init({
  file,
  name,
  domain,
  url,
  email,
}: InitOptions): Promise<{ file: string; did: string; labelKey: string }> {
  const path = resolve(file);
  const text = template({ name, domain, url, email });
  const config = checkConfig(text, path);
  // Before the file: a folder whose keys were lost must not get a configuration that hides it.
  const keys = await openKeys(config);
  try {
    writeFileSync(path, text, { flag: 'wx', mode: 0o640 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    throw new Error(`${path} is already there and stays as it is. Edit it, or name another with --config.`);
  }
  return { file: path, did: config.did, labelKey: keys.label.did() };
}

function template({ name, domain, url, email }: Omit<InitOptions, 'file'>): string {
  const text = (value: string) => JSON.stringify(value);
  return `// One cooperative. Every key that is left out has a default; a wrong one is refused with its line.
{
  "name": ${text(name)},
  // The pool domain: the second DKIM d= on every message.
  "domain": ${text(domain)},
  // Where people reach the pages. The cooperative's DID is made from it: did:web:<host>.
  "publicUrl": ${text(url)},
  "stateDir": "./state",
  "listen": {
    // Behind a reverse proxy that speaks https.
    "web": "127.0.0.1:8080",
    "submission": "0.0.0.0:587",
    "submissions": "0.0.0.0:465",
    "inbound": "0.0.0.0:25",
    "dns": "0.0.0.0:53"
  },
  // Without "tls" the mail ports use a self-signed certificate.
  // "tls": { "certFile": "/etc/atmos/tls/fullchain.pem", "keyFile": "/etc/atmos/tls/privkey.pem" },
  "network": { "resolvers": ["127.0.0.1:53"] },
  "dns": {
    "apex": ${text(`list.${domain}`)},
    "nameservers": [${text(`ns1.${domain}`)}],
    "hostmaster": ${text(`hostmaster@${domain}`)}
  },
  // Who is told when a member is held or mail cannot be taken. An address elsewhere: port 25 takes no mail yet.
  ${email ? '' : '// '}"operator": { "email": ${text(email ?? 'you@elsewhere.example')} },
  // Whom you guarantee: their votes count in your list.
  "peers": []
}
`;
}

/**
 * The members' accounts on the sandbox's PDS, made through @atproto/api as any app would.
 */
import { AtpAgent, XRPCError } from '@atproto/api';

/**
 * Makes the account, or finds the one that an interrupted start made with the same password.
 *
 * @returns its DID
 * @throws XRPCError when the PDS refuses; then the handle belongs to an account with another password
 */
export async function ensureAccount(o: {
  pdsUrl: string;
  handle: string;
  password: string;
}): Promise<string> {
  const agent = new AtpAgent({ service: o.pdsUrl });
  const [name] = o.handle.split('.');
  try {
    await agent.createAccount({ handle: o.handle, email: `${name}@inbox.test`, password: o.password });
  } catch (error) {
    if (!isHandleTaken(error)) throw error;
    await agent.login({ identifier: o.handle, password: o.password });
  }
  return agent.assertDid;
}

function isHandleTaken(error: unknown): boolean {
  return error instanceof XRPCError && /already taken|not available/i.test(`${error.error} ${error.message}`);
}

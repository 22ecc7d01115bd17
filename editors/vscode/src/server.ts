import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import * as vscode from 'vscode';
import type { Executable } from 'vscode-languageclient/node';

const TOKEN = 'midfill.token';

/** Settings of this extension alone: the language server does not know them. */
export const CLIENT_SETTINGS = ['serverCommand', 'python'];

/** How to start the language server, according to the settings and to what is installed. */
export async function findServer(secrets: vscode.SecretStorage): Promise<Executable> {
  const [command, ...args] = serverCommand();
  const token = await secrets.get(TOKEN);
  const env = token ? { ...process.env, MIDFILL_TOKEN: token } : process.env;
  return { command, args, options: { env } };
}

/** Asks for the API key and stores it; an empty answer removes it. Tells whether there is anything new. */
export async function askForToken(secrets: vscode.SecretStorage): Promise<boolean> {
  const token = await vscode.window.showInputBox({
    title: 'Midfill: API key of the service',
    prompt: 'Kept in the secret storage. Leave empty to remove it.',
    password: true,
    ignoreFocusOut: true,
  });
  if (token === undefined) {
    return false;
  }
  await (token ? secrets.store(TOKEN, token) : secrets.delete(TOKEN));
  return true;
}

function serverCommand(): [string, ...string[]] {
  const settings = vscode.workspace.getConfiguration('midfill');
  const [command, ...args] = settings.get<string[]>('serverCommand', []);
  if (command) {
    return [command, ...args];
  }
  const python = settings.get<string>('python', '');
  if (!python && isOnPath('midfill-lsp')) {
    return ['midfill-lsp'];
  }
  // -P keeps the opened folder off Python's module path: a project's own `lsp_server` must not run.
  return [python || (process.platform === 'win32' ? 'python' : 'python3'), '-P', '-m', 'lsp_server'];
}

function isOnPath(program: string): boolean {
  const name = process.platform === 'win32' ? `${program}.exe` : program;
  return (process.env.PATH ?? '').split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

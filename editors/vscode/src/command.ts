import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import * as vscode from 'vscode';
import { findInterpreter } from './interpreter';

/** Settings of this extension alone: the language server does not know them. */
export const CLIENT_SETTINGS = ['serverCommand', 'python'];

/** How to start the language server, and in words where that comes from. */
export interface ServerCommand {
  command: string;
  args: string[];
  origin: string;
}

/** The user's command, the user's `midfill-lsp`, or the bundled server. Throws if there is no Python for it. */
export async function findServer(extensionPath: string): Promise<ServerCommand> {
  const settings = vscode.workspace.getConfiguration('midfill');
  const [command, ...args] = settings.get<string[]>('serverCommand', []);
  if (command) {
    return { command, args, origin: 'midfill.serverCommand' };
  }
  if (!settings.get('python') && isOnPath('midfill-lsp')) {
    return { command: 'midfill-lsp', args: [], origin: 'midfill-lsp on the PATH' };
  }
  const bundled = join(extensionPath, 'server');
  const interpreter = await findInterpreter(bundled);
  // -P keeps the opened folder off Python's module path: a project's own `lsp_server` must not run.
  return {
    command: interpreter.path,
    args: ['-P', join(bundled, 'main.py')],
    origin: `bundled, run by ${interpreter.path}`,
  };
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

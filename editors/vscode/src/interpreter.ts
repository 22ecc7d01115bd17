import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import * as vscode from 'vscode';

const OLDEST = [3, 11];
const PROBE =
  'import sys; from importlib.util import find_spec; ' +
  'print(*sys.version_info[:2], int(all(map(find_spec, ("torch", "inference_service")))))';

/** A Python that can run the language server; `hasService`: `midfill[serve]` is installed in it, too. */
export interface Interpreter {
  path: string;
  hasService: boolean;
}

/** The interpreter of the settings, the Python extension or the PATH; for a local service the first that has it. */
export async function findInterpreter(folder: string): Promise<Interpreter> {
  const settings = vscode.workspace.getConfiguration('midfill');
  const named = settings.get('python', '');
  const local = settings.get('endpoint') === 'local';
  const rejected: string[] = [];
  let usable: Interpreter | undefined;
  for (const path of named ? [named] : [await fromPythonExtension(), ...onPath()]) {
    const found = path ? await probe(path, folder) : undefined;
    if (typeof found === 'string') {
      rejected.push(found);
    } else if (found && (found.hasService || !local)) {
      return found;
    }
    usable ??= typeof found === 'string' ? undefined : found;
  }
  if (usable) {
    return usable;
  }
  const tried = rejected.length > 0 ? ` (tried ${rejected.join(', ')})` : '';
  throw new Error(`Python ${OLDEST.join('.')} or newer was not found${tried}: set midfill.python`);
}

function onPath(): string[] {
  return process.platform === 'win32' ? ['python', 'py'] : ['python3', 'python'];
}

/** The interpreter, or a few words on why it is none. `folder` keeps the workspace off Python's module path. */
async function probe(path: string, folder: string): Promise<Interpreter | string> {
  try {
    const { stdout } = await promisify(execFile)(path, ['-c', PROBE], { cwd: folder, timeout: 20_000 });
    const [major, minor, service] = stdout.trim().split(' ').map(Number);
    if (major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1])) {
      return `${path}: ${major}.${minor}`;
    }
    return { path, hasService: service === 1 };
  } catch {
    return `${path}: does not run`;
  }
}

/** What we use of the Python extension's public interface. */
interface PythonExtension {
  environments: {
    getActiveEnvironmentPath(resource?: vscode.Uri): { path: string };
    resolveEnvironment(path: { path: string }): Promise<{ executable: { uri?: vscode.Uri } } | undefined>;
  };
}

async function fromPythonExtension(): Promise<string | undefined> {
  const extension = vscode.extensions.getExtension<PythonExtension>('ms-python.python');
  // An environment may belong to the workspace: nothing of an untrusted one is run.
  if (!extension || !vscode.workspace.isTrusted) {
    return undefined;
  }
  try {
    const { environments } = await extension.activate();
    const active = environments.getActiveEnvironmentPath(vscode.workspace.workspaceFolders?.[0]?.uri);
    return (await environments.resolveEnvironment(active))?.executable.uri?.fsPath;
  } catch {
    return undefined;
  }
}

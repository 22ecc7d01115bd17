import * as vscode from 'vscode';
import type { Service } from './service';
import type { Status } from './status';
import type { Supervisor } from './supervisor';

const REPORT = vscode.Uri.from({ scheme: 'midfill', path: '/Midfill Doctor.md' });
const SECTIONS: [string, RegExp][] = [
  ['Settings', /^settings: /],
  ['Last requests', /^request(s)?: /],
];
const MARKS: [string, RegExp][] = [
  ['✓ ', /^ok: /],
  ['✗ ', /^PROBLEM: /],
];

/** The report on why nothing is shown, as a rendered page. */
export class Doctor implements vscode.TextDocumentContentProvider {
  private readonly changed = new vscode.EventEmitter<vscode.Uri>();
  readonly onDidChange = this.changed.event;
  private report = '';

  constructor(
    private readonly version: string,
    private readonly supervisor: Supervisor,
    private readonly service: Service,
    private readonly status: Status,
  ) {}

  provideTextDocumentContent(): string {
    return this.report;
  }

  async show(): Promise<void> {
    const location = vscode.ProgressLocation.Window;
    this.report = await vscode.window.withProgress({ location, title: 'Midfill: examining' }, () => this.examine());
    this.changed.fire(REPORT);
    await vscode.commands.executeCommand('markdown.showPreview', REPORT);
  }

  private async examine(): Promise<string> {
    const lines = [
      `editor: Visual Studio Code ${vscode.version}, extension ${this.version}`,
      `language server: ${this.supervisor.origin}`,
      `endpoint: ${this.service.endpoint}`,
      `status: ${this.status.message}`,
    ];
    if (this.supervisor.running) {
      lines.push(...(await vscode.commands.executeCommand<string>('midfill.doctor')).split('\n'));
    } else {
      lines.push('PROBLEM: the language server is not running; see the output');
    }
    return render(lines);
  }
}

/** Markdown of the report's lines: what was found out first, then settings and requests. */
export function render(lines: string[]): string {
  const isElsewhere = (line: string) => SECTIONS.some(([, start]) => start.test(line));
  const parts = [`# Midfill Doctor`, list(lines.filter((line) => line && !isElsewhere(line)))];
  for (const [title, start] of SECTIONS) {
    const own = lines.filter((line) => start.test(line));
    parts.push(`## ${title}`, list(own.map((line) => line.replace(start, ''))));
  }
  return `${parts.join('\n\n')}\n`;
}

function list(lines: string[]): string {
  return lines.map((line) => `- ${marked(line)}`).join('\n');
}

function marked(line: string): string {
  const [mark, start] = MARKS.find(([, start]) => start.test(line)) ?? ['', /^/];
  return mark + line.replace(start, '').replace(/[\\`*_{}[\]<>#|]/g, '\\$&');
}

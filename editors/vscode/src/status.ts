import * as vscode from 'vscode';
import { DOCUMENTS } from './client';
import { isOn } from './overrides';

/** What the server says with `didChangeStatus`. */
export interface ServerStatus {
  busy: boolean;
  message?: string;
  kind: 'Normal' | 'Warning' | 'Error' | 'Inactive';
}

const ICONS = { Normal: 'sparkle', Warning: 'warning', Error: 'error', Inactive: 'circle-slash' };
const LINKS = [
  ['Doctor', 'midfill.showDoctor'],
  ['Sign in', 'midfill.signIn'],
  ['Output', 'midfill.showOutput'],
];

/** The status bar item: the only place where trouble with the service is told. */
export class Status implements vscode.Disposable {
  private readonly item = vscode.window.createStatusBarItem('midfill.status', vscode.StatusBarAlignment.Right, 100);
  private server: ServerStatus = { busy: true, kind: 'Normal', message: 'starting' };

  constructor() {
    this.item.name = 'Midfill';
    this.item.command = 'midfill.showMenu';
    this.refresh();
    this.item.show();
  }

  /** What the item says, in words. */
  get message(): string {
    return this.state().message || 'ready';
  }

  show(state: ServerStatus): void {
    this.server = state;
    this.refresh();
  }

  /** Shows what holds for the active editor. */
  refresh(): void {
    const { busy, kind } = this.state();
    this.item.text = `$(${busy ? 'loading~spin' : ICONS[kind]}) Midfill`;
    this.item.accessibilityInformation = { label: `Midfill: ${this.message}`, role: 'button' };
    const tooltip = new vscode.MarkdownString().appendText(`Midfill: ${this.message}`);
    tooltip.appendMarkdown(`\n\n${LINKS.map(([label, command]) => `[${label}](command:${command})`).join(' · ')}`);
    tooltip.isTrusted = { enabledCommands: LINKS.map(([, command]) => command) };
    this.item.tooltip = tooltip;
    this.item.backgroundColor =
      kind === 'Error' ? new vscode.ThemeColor('statusBarItem.warningBackground') : undefined;
  }

  dispose(): void {
    this.item.dispose();
  }

  private state(): ServerStatus {
    const document = vscode.window.activeTextEditor?.document;
    if (this.server.kind === 'Normal' && document && vscode.languages.match(DOCUMENTS, document) && !isOn(document)) {
      return { busy: false, kind: 'Inactive', message: `switched off for ${document.languageId}` };
    }
    return this.server;
  }
}

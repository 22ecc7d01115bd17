import * as vscode from 'vscode';

/** Settings that `[language]` sections may override: the value that lets completions through. */
const OPEN: Record<string, unknown> = { enable: true, trigger: 'automatic' };

/** Whether completions are on for a document of this language, at this place. */
export function isOn(document: vscode.ConfigurationScope): boolean {
  return vscode.workspace.getConfiguration('midfill', document).get('enable', true);
}

/** Whether VS Code's request may go to the server. */
export function isWanted(document: vscode.TextDocument, context: vscode.InlineCompletionContext): boolean {
  const settings = vscode.workspace.getConfiguration('midfill', document);
  const automatic = context.triggerKind === vscode.InlineCompletionTriggerKind.Automatic;
  return settings.get('enable', true) && !(automatic && settings.get('trigger') === 'manual');
}

/** What the server is told: it knows no languages' sections, so a setting is as open as the most open of them. */
export function forServer(section: Record<string, unknown>): Record<string, unknown> {
  const opened = Object.entries(OPEN).filter(([key, value]) => key in section && languageSays(key, value));
  return { ...section, ...Object.fromEntries(opened) };
}

function languageSays(key: string, value: unknown): boolean {
  const languages = vscode.workspace.getConfiguration('midfill').inspect(key)?.languageIds ?? [];
  return languages.some((languageId) => vscode.workspace.getConfiguration('midfill', { languageId }).get(key) === value);
}

variable "prefix" {
  description = "What names start with."
  type        = string
}

variable "region" {
  description = "The region."
  type        = string
}

variable "functions" {
  description = "Names of the functions by short name."
  type        = map(string)
}

variable "api_id" {
  description = "The API."
  type        = string
}

variable "table_name" {
  description = "The table."
  type        = string
}

variable "dead_letter_queues" {
  description = "Names of the dead-letter queues by function."
  type        = map(string)
}

variable "topic_arn" {
  description = "Where alarms go."
  type        = string
}

variable "emails" {
  description = "Who is told of the budget."
  type        = list(string)
}

variable "monthly_budget_usd" {
  description = "Budget of the account per month; null for none."
  type        = number
  default     = null
}

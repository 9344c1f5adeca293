variable "prefix" {
  description = "What names start with."
  type        = string
}

variable "account_id" {
  description = "The account."
  type        = string
}

variable "bus_name" {
  description = "The bus."
  type        = string
}

variable "kms_key_arn" {
  description = "The key of the topic."
  type        = string
}

variable "emails" {
  description = "Who is told."
  type        = list(string)
}

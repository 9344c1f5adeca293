output "bucket_name" {
  description = "The bucket of data."
  value       = module.data.name
}

output "bucket_arn" {
  description = "Its ARN."
  value       = module.data.arn
}

output "audit_bucket_name" {
  description = "The bucket with object lock."
  value       = module.audit.name
}

output "table_name" {
  description = "The table."
  value       = aws_dynamodb_table.this.name
}

output "table_arn" {
  description = "Its ARN."
  value       = aws_dynamodb_table.this.arn
}
